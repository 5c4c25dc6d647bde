"""A LoRA adapter as a model of its own: its name and its way to the engine; all else is the model's that it is for."""

from typing import Any, cast

from bento_trtllm.api.model import ServedModel
from bento_trtllm.generation.generator import Generator


class AdapterModel:
    """A ServedModel. Whatever it shares with its base is asked of the base, each time."""

    def __init__(self, base: ServedModel, name: str, generator: Generator) -> None:
        self.name = self.tag = name
        self.generator = generator
        self.adapters: dict[str, ServedModel] = {}
        self._base = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def adapt(base: ServedModel, name: str, generator: Generator) -> ServedModel:
    """The model that an adapter makes of another; its generator asks the engine for that adapter."""
    return cast(ServedModel, AdapterModel(base, name, generator))
