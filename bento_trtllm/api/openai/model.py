"""What the API needs of a model: llm.LLM."""

from typing import Protocol

from bento_trtllm.generation.generator import TextStreams
from bento_trtllm.manifest import Manifest
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer


class Model(Protocol):
    """A packed model in service. `name` is what requests call it; `tag` is taken too."""

    name: str
    tag: str
    created: int
    manifest: Manifest
    tokenizer: PromptTokenizer
    template: ChatTemplate
    streams: TextStreams
    defaults: Defaults
