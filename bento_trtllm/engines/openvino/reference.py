"""A decoder's forward pass in plain numpy, with rotary frequencies of its own: what the engine's answers are held
against, by tests and by every pack that is made (proof.py).

Matrices are read some rows at a time, so that memory stays bounded whatever the size of the checkpoint.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.checkpoint.checkpoint import Checkpoint, read_checkpoint
from bento_trtllm.checkpoint.values import to_bf16, widen
from bento_trtllm.engines.openvino import quantize
from bento_trtllm.engines.openvino.weights import EMBEDDING, HEAD, SENSITIVE, SLICE_ELEMENTS

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A checkpoint whose weights are rounded as an engine's file holds them, and computed with in f32."""

    checkpoint: Checkpoint
    precision: str = "f32"
    """One of the OpenVINO engine's."""
    layers: Sequence[int] | None = None
    """The layers that are computed, one after another; None for all."""

    @classmethod
    def load(cls, directory: Path, precision: str = "f32") -> "Reference":
        """The reference for the checkpoint in a directory. Raises CheckpointError."""
        return cls(read_checkpoint(directory, str(directory)), precision)

    def log_probs(self, ids: list[int], start: int = 0) -> Array:
        """Natural logarithms of probabilities, of what `logits` scores."""
        logits = self.logits(ids, start)
        above = logits - logits.max(-1, keepdims=True)
        return np.asarray(above - np.log(np.exp(above).sum(-1, keepdims=True)), np.float32)

    def logits(self, ids: list[int], start: int = 0) -> Array:
        """Scores [tokens - start, vocabulary] of the token after each of ids[start:]."""
        config = self.checkpoint.config
        heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        angles = np.arange(len(ids))[:, None] * frequencies(config)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        def rotate(x: Array) -> Array:
            low, high = x[..., : dim // 2], x[..., dim // 2 :]
            return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

        def norm(x: Array, name: str) -> Array:
            scale: Array = np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(config.rms_norm_eps))
            return x / scale * self._vector(f"{name}.weight")

        def heads_of(x: Array, name: str, count: int, turned: bool) -> Array:
            split = project(x, f"{name}_proj", count)
            split = norm(split, f"{name}_norm") if f"{name}_norm.weight" in self.checkpoint.tensors else split
            return rotate(split) if turned else split

        def project(x: Array, name: str, count: int = 0) -> Array:
            out = self._product(x, f"{name}.weight")
            out = out + self._vector(f"{name}.bias") if f"{name}.bias" in self.checkpoint.tensors else out
            return out.reshape(len(ids), count, dim).swapaxes(0, 1) if count else out

        x = self._round(EMBEDDING, self.checkpoint.tensors[EMBEDDING].open()[ids])
        future = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), 1)
        for i in range(config.num_hidden_layers) if self.layers is None else self.layers:
            layer = f"model.layers.{i}"
            y = norm(x, f"{layer}.input_layernorm")
            q = heads_of(y, f"{layer}.self_attn.q", heads, config.is_turned(i))
            k = heads_of(y, f"{layer}.self_attn.k", kv_heads, config.is_turned(i)).repeat(heads // kv_heads, 0)
            v = project(y, f"{layer}.self_attn.v_proj", kv_heads).repeat(heads // kv_heads, 0)
            scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(dim)) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (scores / scores.sum(-1, keepdims=True)) @ v
            x = x + project(attended.swapaxes(0, 1).reshape(len(ids), -1), f"{layer}.self_attn.o_proj")
            y = norm(x, f"{layer}.post_attention_layernorm")
            gate = project(y, f"{layer}.mlp.gate_proj")
            y = gate / (1 + np.exp(-gate)) * project(y, f"{layer}.mlp.up_proj")
            x = x + project(y, f"{layer}.mlp.down_proj")
        return self._product(norm(x[start:], "model.norm"), EMBEDDING if config.tie_word_embeddings else HEAD)

    def _vector(self, name: str) -> Array:
        return widen(self.checkpoint.tensors[name].open())

    def _product(self, x: Array, name: str) -> Array:
        return np.concatenate([x @ rows.T for rows in self._rows(name)], -1)

    def _rows(self, name: str) -> Iterator[Array]:
        matrix = self.checkpoint.tensors[name].open()
        step = max(1, SLICE_ELEMENTS // matrix.shape[1])
        for start in range(0, len(matrix), step):
            yield self._round(name, matrix[start : start + step])

    def _round(self, name: str, stored: "NDArray[np.generic]") -> Array:
        """Rows of a matrix as the engine's file holds them."""
        rows = widen(stored)
        if self.precision == "f32":
            return rows
        if self.precision == "f16":
            return rows.astype(np.float16).astype(np.float32)
        if self.precision == "bf16":
            return widen(to_bf16(rows))
        group = quantize.group_size(rows.shape[1]) if self.precision == "int4" and name not in SENSITIVE else None
        whole, scales = quantize.to_int4(rows, group) if group else quantize.to_int8(rows)
        return np.asarray(whole * scales.astype(np.float32), np.float32).reshape(rows.shape)


def frequencies(config: DecoderConfig) -> NDArray[np.float64]:
    """Radians a position for each pair of a head's dimensions: Llama 3.1's as the paper of its release describes it."""
    rope, found = config.rope_scaling, []
    for i in range(0, config.head_dim, 2):
        frequency = config.rope_theta ** (-i / config.head_dim)
        if rope.rope_type == "linear":
            assert rope.factor
            frequency /= rope.factor
        if rope.rope_type == "llama3":
            length, low, high = rope.original_max_position_embeddings, rope.low_freq_factor, rope.high_freq_factor
            assert length and low and high and rope.factor
            wave = 2 * np.pi / frequency
            if wave > length / low:
                frequency /= rope.factor
            elif wave > length / high:
                smooth = (length / wave - low) / (high - low)
                frequency = (1 - smooth) * frequency / rope.factor + smooth * frequency
        found.append(frequency)
    return np.array(found)
