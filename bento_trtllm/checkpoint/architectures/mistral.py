"""Mistral, whose layers are Llama's, from version 0.2 on without a sliding window."""

from pydantic import Field

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig


class MistralConfig(LlamaConfig):
    """Defaults are those of transformers' MistralConfig, whose window is for checkpoints that do not name theirs."""

    sliding_window: int | None = Field(default=4096, gt=0)

    @property
    def window(self) -> int | None:
        return self.sliding_window
