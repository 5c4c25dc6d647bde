"""What all architectures here share: a decoder of identical layers, with grouped-query attention and a gated MLP."""

from abc import abstractmethod
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self


class RopeScaling(BaseModel):
    """How rotary frequencies differ from those of `rope_theta` alone, as transformers' modeling_rope_utils.py reads it.

    Which of the numbers there are depends on `rope_type`: `default` has none, `linear` a factor, `llama3` all.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rope_type: str = "default"
    factor: float | None = Field(None, gt=0)
    low_freq_factor: float | None = Field(None, gt=0)
    high_freq_factor: float | None = Field(None, gt=0)
    original_max_position_embeddings: int | None = Field(None, gt=0)


class DecoderConfig(BaseModel):
    """config.json, as written by transformers 4 or 5. Sizes are in elements, lengths in tokens."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: tuple[str, ...]
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0, multiple_of=2)
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    rope_scaling: RopeScaling = RopeScaling()
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: str
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    quantization_config: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = dict(data)
        # transformers 5 writes rope_parameters; 4 wrote rope_theta and rope_scaling (once with `type`).
        rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
        data["rope_scaling"] = {**rope, "rope_type": rope.get("rope_type", rope.get("type", "default"))}
        if "rope_theta" in rope:
            data["rope_theta"] = rope["rope_theta"]
        heads = data.get("num_attention_heads")
        if data.get("num_key_value_heads") is None:
            data["num_key_value_heads"] = heads
        if data.get("head_dim") is None and isinstance(heads, int) and heads > 0:
            data["head_dim"] = int(data.get("hidden_size", 0)) // heads
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads is not a multiple of num_key_value_heads")
        return self

    @property
    def rope_type(self) -> str:
        """What its rotary frequencies are scaled by, as transformers calls it; `default` is not at all."""
        return self.rope_scaling.rope_type

    @property
    def architecture(self) -> str:
        """Hugging Face's name for it."""
        return self.architectures[0]

    @property
    def window(self) -> int | None:
        """Tokens that a token sees before itself, in some layer; None where it sees all of them in all."""
        return None

    def is_turned(self, layer: int) -> bool:
        """Whether that layer's queries and keys are turned by their positions."""
        return True

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape, [out, in], of every tensor that the architecture needs, by Hugging Face's name."""
