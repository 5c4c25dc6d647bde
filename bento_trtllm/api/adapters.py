"""A LoRA adapter as a model of its own: what it shares with the model that it is for, and what it does not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.tools.formats import ToolFormat
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.generator import Generator
from bento_trtllm.manifest import Manifest, Proof
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer


@dataclass
class AdapterModel:
    """A ServedModel."""

    name: str
    tag: str
    created: int
    manifest: Manifest
    tokenizer: PromptTokenizer
    template: ChatTemplate
    generator: Generator
    defaults: Defaults
    admission: Admission
    tool_format: ToolFormat
    thinks: bool
    proof: Proof | None
    not_ready: Callable[[], str | None]
    adapters: Mapping[str, ServedModel] = field(default_factory=dict)


def adapt(base: ServedModel, name: str, generator: Generator) -> ServedModel:
    """The model that an adapter makes of another; its generator asks the engine for that adapter."""
    return AdapterModel(
        name, name, base.created, base.manifest, base.tokenizer, base.template, generator, base.defaults,
        base.admission, base.tool_format, base.thinks, base.proof, base.not_ready,
    )  # fmt: skip
