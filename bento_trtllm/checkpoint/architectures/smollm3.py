"""SmolLM3: Llama's layers, of which some know nothing of positions."""

from pydantic import Field, model_validator
from typing_extensions import Self

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig


class SmolLM3Config(LlamaConfig):
    """Defaults are those of transformers' SmolLM3Config."""

    rope_theta: float = Field(default=2000000.0, gt=0)
    tie_word_embeddings: bool = True
    use_sliding_window: bool = False
    sliding_window: int | None = Field(default=None, gt=0)
    no_rope_layers: tuple[bool, ...] | None = None
    """True, in spite of its name, for a layer whose queries and keys are turned."""
    no_rope_layer_interval: int = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _names_each_layer(self) -> Self:
        if self.no_rope_layers is not None and len(self.no_rope_layers) < self.num_hidden_layers:
            raise ValueError("no_rope_layers has fewer entries than num_hidden_layers")
        return self

    @property
    def window(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    def is_turned(self, layer: int) -> bool:
        if self.no_rope_layers is not None:
            return self.no_rope_layers[layer]
        return (layer + 1) % self.no_rope_layer_interval != 0
