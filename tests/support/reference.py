"""Llama's forward pass in numpy, and its relatives': what an engine's answers are held against."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.safetensors import read_shards
from bento_trtllm.engines.openvino import quantize
from bento_trtllm.engines.openvino.weights import SENSITIVE

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Llama:
    """A checkpoint's weights, rounded as an engine's file holds them, and computed with in f32."""

    weights: dict[str, Array]
    config: dict[str, Any]

    @classmethod
    def load(cls, directory: Path, precision: str = "f32") -> "Llama":
        """Read config.json and the safetensors of a directory; `precision` is one of the OpenVINO engine's."""
        weights = {name: quantize.widen(tensor.open()) for name, tensor in read_shards(directory).items()}
        rounded = {name: _round(name, value, precision) for name, value in weights.items()}
        return cls(rounded, json.loads((directory / "config.json").read_text()))

    def log_probs(self, ids: list[int], start: int = 0) -> Array:
        """Natural logarithms of probabilities, of what `logits` scores."""
        logits = self.logits(ids, start)
        above = logits - logits.max(-1, keepdims=True)
        return np.asarray(above - np.log(np.exp(above).sum(-1, keepdims=True)), np.float32)

    def logits(self, ids: list[int], start: int = 0) -> Array:
        """Scores [tokens - start, vocabulary] of the token after each of ids[start:]."""
        config = self.config
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        dim = config.get("head_dim") or config["hidden_size"] // heads
        angles = np.arange(len(ids))[:, None] * frequencies(config, dim)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        def rotate(x: Array) -> Array:
            low, high = x[..., : dim // 2], x[..., dim // 2 :]
            return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

        def norm(x: Array, name: str) -> Array:
            scale: Array = np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(config["rms_norm_eps"]))
            return x / scale * self.weights[f"{name}.weight"]

        def heads_of(x: Array, name: str, count: int, turned: bool) -> Array:
            split = project(x, f"{name}_proj", count)
            split = norm(split, f"{name}_norm") if f"{name}_norm.weight" in self.weights else split
            return rotate(split) if turned else split

        def project(x: Array, name: str, count: int = 0) -> Array:
            out = x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", np.float32(0))
            return out.reshape(len(ids), count, dim).swapaxes(0, 1) if count else out

        x = self.weights["model.embed_tokens.weight"][ids]
        future = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), 1)
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            y = norm(x, f"{layer}.input_layernorm")
            # SmolLM3's list names the layers that are turned.
            turned = bool(config["no_rope_layers"][i]) if "no_rope_layers" in config else True
            q = heads_of(y, f"{layer}.self_attn.q", heads, turned)
            k = heads_of(y, f"{layer}.self_attn.k", kv_heads, turned).repeat(heads // kv_heads, 0)
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


def frequencies(config: dict[str, Any], dim: int) -> NDArray[np.float64]:
    """Radians a position for each pair of a head's dimensions: Llama 3.1's as the paper of its release describes it."""
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    theta, kind = config.get("rope_theta") or rope["rope_theta"], rope.get("rope_type", rope.get("type", "default"))
    found = []
    for i in range(0, dim, 2):
        frequency = theta ** (-i / dim)
        if kind == "linear":
            frequency /= rope["factor"]
        if kind == "llama3":
            length, low, high = (
                rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
            )
            wave = 2 * np.pi / frequency
            if wave > length / low:
                frequency /= rope["factor"]
            elif wave > length / high:
                smooth = (length / wave - low) / (high - low)
                frequency = (1 - smooth) * frequency / rope["factor"] + smooth * frequency
        found.append(frequency)
    return np.array(found)


def _round(name: str, value: Array, precision: str) -> Array:
    """A tensor as the engine's file holds it."""
    if value.ndim == 1 or precision == "f32":
        return value
    if precision == "f16":
        return value.astype(np.float16).astype(np.float32)
    if precision == "bf16":
        return quantize.widen(quantize.to_bf16(value))
    group = quantize.group_size(value.shape[1]) if precision == "int4" and name not in SENSITIVE else None
    whole, scales = quantize.to_int4(value, group) if group else quantize.to_int8(value)
    return np.asarray(whole * scales.astype(np.float32), np.float32).reshape(value.shape)
