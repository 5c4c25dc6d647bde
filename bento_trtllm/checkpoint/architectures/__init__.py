"""The architectures by Hugging Face's names, a file each. What an engine must know of one is with the engine."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig

ARCHITECTURES = {
    "LlamaForCausalLM": "bento_trtllm.checkpoint.architectures.llama:LlamaConfig",
}


def config_of(architecture: str) -> "type[DecoderConfig]":
    """How config.json reads for an architecture, which must be in ARCHITECTURES."""
    config: type[DecoderConfig] = resolve_name(ARCHITECTURES[architecture])
    return config
