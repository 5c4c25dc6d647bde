"""The architectures by Hugging Face's names, one file each. What an engine must know about one is with the engine."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig

ARCHITECTURES = {
    "LlamaForCausalLM": "bento_trtllm.checkpoint.architectures.llama:LlamaConfig",
    "MistralForCausalLM": "bento_trtllm.checkpoint.architectures.mistral:MistralConfig",
    "Qwen2ForCausalLM": "bento_trtllm.checkpoint.architectures.qwen2:Qwen2Config",
    "Qwen3ForCausalLM": "bento_trtllm.checkpoint.architectures.qwen3:Qwen3Config",
    "SmolLM3ForCausalLM": "bento_trtllm.checkpoint.architectures.smollm3:SmolLM3Config",
}


def config_of(architecture: str) -> "type[DecoderConfig]":
    """The class that reads config.json for an architecture, which must be in ARCHITECTURES."""
    config: type[DecoderConfig] = resolve_name(ARCHITECTURES[architecture])
    return config
