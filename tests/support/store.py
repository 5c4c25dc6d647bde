"""A model store of a test's own, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore


@contextmanager
def own_store(home: Path) -> Iterator[None]:
    """Of that BentoML home, whichever BentoML has looked at before: it does so once in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(home))
        BentoMLContainer.model_store.set(ModelStore(str(home / "models")))
        try:
            yield
        finally:
            BentoMLContainer.model_store.reset()
