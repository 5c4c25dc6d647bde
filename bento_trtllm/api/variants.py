"""A model's variants: a model of its own for each LoRA adapter that its pack has.

What is its own is its name and its way to the engine; all else is the model's that it is for.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from bento_trtllm.api.model import ServedModel
from bento_trtllm.generation.adapted import Adapted
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.source import TokenSource
from bento_trtllm.triton_models.shared.adapters import Adapters


class Variant:
    """A ServedModel. Whatever it shares with its base is asked of the base, each time."""

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
        name: cast(ServedModel, Variant(base, name, generator(partial(Adapted, source, number))))
        for name, number in Adapters.read(packed / "engine").numbers.items()
    }
