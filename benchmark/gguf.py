"""A checkpoint as the file that llama.cpp reads, so that both are measured on the same weights.

For measuring only: it has no tokenizer, and queries and keys are not reordered, so its answers are not the
checkpoint's. What is written is ggml's docs/gguf.md, version 3: little-endian, a header of key-value pairs and tensor
descriptions, then the tensors' bytes, each aligned.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import Tensor

ALIGNMENT = 32
U32, F32, TEXT = 4, 6, 8
"""Types of values."""
FULL, HALF = 0, 1
"""Types of tensors: f32, which vectors are, and f16."""
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What llama.cpp calls Llama's tensors (its gguf-py/gguf/constants.py)."""


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write a Llama of F16 tensors. Raises KeyError for a tensor that Llama does not have."""
    config = checkpoint.config
    values: list[tuple[str, int | float | str]] = [
        ("general.architecture", "llama"),
        ("general.file_type", HALF),
        ("llama.block_count", config.num_hidden_layers),
        ("llama.context_length", config.max_position_embeddings),
        ("llama.embedding_length", config.hidden_size),
        ("llama.feed_forward_length", config.intermediate_size),
        ("llama.attention.head_count", config.num_attention_heads),
        ("llama.attention.head_count_kv", config.num_key_value_heads),
        ("llama.attention.key_length", config.head_dim),
        ("llama.attention.value_length", config.head_dim),
        ("llama.attention.layer_norm_rms_epsilon", float(config.rms_norm_eps)),
        ("llama.rope.dimension_count", config.head_dim),
        ("llama.rope.freq_base", float(config.rope_theta)),
        ("llama.vocab_size", config.vocab_size),
        ("tokenizer.ggml.model", "no_vocab"),
    ]
    tensors = [(_name(name), tensor) for name, tensor in checkpoint.tensors.items()]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(_pair(*pair) for pair in values)
    offset = 0
    for name, tensor in tensors:
        head += _text(name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
        head += struct.pack("<IQ", _type(tensor.shape), offset)
        offset += _aligned(int(np.prod(tensor.shape)) * (4 if _type(tensor.shape) == FULL else 2))
    with path.open("wb") as file:
        file.write(head.ljust(_aligned(len(head)), b"\0"))
        for _, tensor in tensors:
            data = _values(tensor)
            file.write(data.ljust(_aligned(len(data)), b"\0"))


def _name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, _, number, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{number}.{LAYER[part]}.weight"


def _type(shape: Sequence[int]) -> int:
    return FULL if len(shape) == 1 else HALF


def _values(tensor: Tensor) -> bytes:
    values = tensor.open()
    if tensor.dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32 if _type(tensor.shape) == FULL else np.float16, copy=False).tobytes()


def _pair(key: str, value: int | float | str) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", TEXT) + _text(value)
    kind, form = (F32, "<If") if isinstance(value, float) else (U32, "<II")
    return _text(key) + struct.pack(form, kind, value)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
