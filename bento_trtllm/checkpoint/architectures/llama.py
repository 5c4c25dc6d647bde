"""Llama, and models with the same layers, such as SmolLM2."""

from pydantic import Field

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig


class LlamaConfig(DecoderConfig):
    """Keys that old checkpoints leave out have the defaults of transformers' LlamaConfig."""

    rms_norm_eps: float = Field(default=1e-6, gt=0)
    rope_theta: float = Field(default=10000.0, gt=0)
    hidden_act: str = "silu"

    def layer(self) -> dict[str, tuple[int, ...]]:
        """The weights of each layer, by what they are called within it."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        return {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, layer = self.hidden_size, self.layer()
        biased = [name for name in layer if self.has_bias(name)]
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for i in range(self.num_hidden_layers):
            shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
            shapes |= {f"model.layers.{i}.{name}.bias": layer[name][:1] for name in biased}
        shapes["model.norm.weight"] = (hidden,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        return shapes

    def has_bias(self, name: str) -> bool:
        """As transformers' LlamaAttention and LlamaMLP have them."""
        within, _, kind = name.partition(".")
        biased = (self.attention_bias and within == "self_attn") or (self.mlp_bias and within == "mlp")
        return biased and kind.endswith("_proj")
