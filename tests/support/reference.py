"""Llama's forward pass in numpy: what an engine's answers are held against."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from bento_trtllm.checkpoint.safetensors import read_shards
from bento_trtllm.engines.openvino.gguf import MATRIX_TYPES, widen

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Llama:
    """A checkpoint's weights, rounded as a GGUF file holds them, and computed with in f32."""

    weights: dict[str, Array]
    config: dict[str, Any]

    @classmethod
    def load(cls, directory: Path, precision: str = "f16") -> "Llama":
        """Read config.json and the safetensors of a directory; `precision` is f16 or q8_0."""
        kind = MATRIX_TYPES[precision]
        weights = {name: widen(tensor.open()) for name, tensor in read_shards(directory).items()}
        rounded = {
            name: dequantize(quantize(value, kind), kind) if value.ndim > 1 else value
            for name, value in weights.items()
        }
        return cls(rounded, json.loads((directory / "config.json").read_text()))

    def logits(self, ids: list[int], start: int = 0) -> Array:
        """Scores [tokens - start, vocabulary] of the token after each of ids[start:]."""
        config = self.config
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        dim = config.get("head_dim") or config["hidden_size"] // heads
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        frequencies = theta ** (-np.arange(0, dim, 2) / dim)
        angles = np.arange(len(ids))[:, None] * frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        def rotate(x: Array) -> Array:
            low, high = x[..., : dim // 2], x[..., dim // 2 :]
            return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

        def norm(x: Array, name: str) -> Array:
            scale: Array = np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(config["rms_norm_eps"]))
            return x / scale * self.weights[f"{name}.weight"]

        def project(x: Array, name: str, count: int = 0) -> Array:
            out = x @ self.weights[f"{name}.weight"].T
            return out.reshape(len(ids), count, dim).swapaxes(0, 1) if count else out

        x = self.weights["model.embed_tokens.weight"][ids]
        future = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), 1)
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            y = norm(x, f"{layer}.input_layernorm")
            q = rotate(project(y, f"{layer}.self_attn.q_proj", heads))
            k = rotate(project(y, f"{layer}.self_attn.k_proj", kv_heads)).repeat(heads // kv_heads, 0)
            v = project(y, f"{layer}.self_attn.v_proj", kv_heads).repeat(heads // kv_heads, 0)
            scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(dim)) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (scores / scores.sum(-1, keepdims=True)) @ v
            x = x + project(attended.swapaxes(0, 1).reshape(len(ids), -1), f"{layer}.self_attn.o_proj")
            y = norm(x, f"{layer}.post_attention_layernorm")
            gate = project(y, f"{layer}.mlp.gate_proj")
            y = gate / (1 + np.exp(-gate)) * project(y, f"{layer}.mlp.up_proj")
            x = x + project(y, f"{layer}.mlp.down_proj")
        head = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
        return norm(x[start:], "model.norm") @ self.weights[f"{head}.weight"].T
