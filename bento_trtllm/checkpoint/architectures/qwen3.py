"""Qwen3: Llama's layers, with a norm of each head's queries and keys."""

from typing import Any

from pydantic import Field, model_validator

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig


class Qwen3Config(LlamaConfig):
    """Defaults are those of transformers' Qwen3Config."""

    use_sliding_window: bool = False
    sliding_window: int | None = Field(default=4096, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _own_head_dim(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "head_dim": data.get("head_dim") or 128}

    @property
    def window(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    def layer(self) -> dict[str, tuple[int, ...]]:
        return {**super().layer(), "self_attn.q_norm": (self.head_dim,), "self_attn.k_norm": (self.head_dim,)}
