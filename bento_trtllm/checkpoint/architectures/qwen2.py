"""Qwen2 and Qwen2.5: Llama's layers, with biases where queries, keys and values are made."""

from pydantic import Field

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig

BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class Qwen2Config(LlamaConfig):
    """Defaults are those of transformers' Qwen2Config."""

    use_sliding_window: bool = False
    sliding_window: int | None = Field(default=4096, gt=0)

    @property
    def window(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    def has_bias(self, name: str) -> bool:
        return name in BIASED
