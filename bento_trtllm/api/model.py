"""What the API needs of the model that is served."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bento_trtllm.api.tools.formats import ToolFormat
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.generator import Generator
from bento_trtllm.manifest import Manifest, Proof
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer


class ServedModel(Protocol):
    """A packed model in service: llm.LLM. `name` is what requests call it; `tag` is taken too."""

    name: str
    tag: str
    created: int
    manifest: Manifest
    proof: Proof | None
    """What it has shown of itself on this machine."""
    tokenizer: PromptTokenizer
    template: ChatTemplate
    generator: Generator
    defaults: Defaults
    admission: Admission
    tool_format: ToolFormat
    thinks: bool
    """Whether its template knows of thoughts before an answer."""
    kind: str
    """Which list of a key must have it: a field of keys.key.Permitted."""
    variants: Mapping[str, "ServedModel"]
    """Models that its engine serves besides, by their names."""

    def not_ready(self) -> str | None:
        """Why no requests are taken, as a sentence; None if they are."""
        ...


def not_ready(models: Sequence[ServedModel]) -> str | None:
    """Why not every model takes requests now, as a sentence; None if all do."""
    return next(filter(None, (model.not_ready() for model in models)), None)


def called(model: ServedModel, name: str) -> ServedModel | None:
    """The model itself or one of its variants, by its name; None if it has no such name."""
    return model if name in (model.name, model.tag) else model.variants.get(name)


def position(models: Sequence[ServedModel], name: object) -> int:
    """Which of the models a request means by a name; the first where it means none of them."""
    if not isinstance(name, str):
        return 0
    return next((number for number, model in enumerate(models) if called(model, name)), 0)
