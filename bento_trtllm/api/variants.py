"""A model's variants: a model of its own for each LoRA adapter that its pack has.

Whoever asks which models a pack makes, what requests call them, and what is told of them, asks here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bento_trtllm.errors import StoreError
from bento_trtllm.generation.adapted import Adapted
from bento_trtllm.metrics.adapters import adapters
from bento_trtllm.triton_models.shared.adapters import Adapters

if TYPE_CHECKING:  # heavy, and packing and the process that starts the workers ask for names alone
    from bento_trtllm.api.model import ServedModel
    from bento_trtllm.generation.generator import Generator
    from bento_trtllm.generation.source import TokenSource


class Variant:
    """A ServedModel: its name and its way to the engine are its own; all else is asked of its base, each time."""

    kind = "adapters"

    def __init__(self, base: ServedModel, name: str, generator: Generator) -> None:
        self.name = self.tag = name
        self.generator = generator
        self.variants: dict[str, ServedModel] = {}
        self._base = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def variants(
    base: ServedModel,
    packed: Path,
    generator: Callable[[Callable[[], TokenSource]], Generator],
    source: Callable[[], TokenSource],
) -> Mapping[str, ServedModel]:
    """By their names. `generator` makes one of an engine; `source` is the base's engine as it is now."""
    return {
        name: cast("ServedModel", Variant(base, name, generator(partial(Adapted, source, number))))
        for name, number in Adapters.read(packed / "engine").numbers.items()
    }


def told(model: ServedModel, *, ready: bool) -> str:
    """What /metrics says of them; `ready` is whether the engine is."""
    return adapters(model.variants, ready=ready, now=time.time())


def names(name: str, packed: Path) -> list[str]:
    """Of a pack that is called so: this name, and then its variants'."""
    return [name, *Adapters.read(packed / "engine").names]


def check_names(models: Sequence[Sequence[str]]) -> None:
    """Raise StoreError where requests could mean two by one of each model's names, of which the first is its own."""
    counts = Counter(name for names in models for name in names)
    both = next((name for name, count in counts.items() if count > 1), None)
    if both is None:
        return
    having = [names[0] for names in models if both in names]
    if len(having) == 1:
        raise StoreError(f"an adapter has the name {both}, which is the model's: give it another")
    raise StoreError(
        f"requests would call two of the models {both}, an adapter's name: {' and '.join(having)} do not go together"
    )
