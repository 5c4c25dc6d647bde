"""Checkpoints of a real model's shape with random weights: what is computed costs the same whatever they are.

The vocabulary is a byte-level BPE of ASCII words, and the rows of all other tokens are zero: those are never the
likeliest, so an answer is text from its first token on and never ends by itself.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig
from tests.support.checkpoints import write_tokenizer

BYTES = 256
"""The first tokens of a byte-level vocabulary; not all are text on their own."""
SPECIALS = 256
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Shape:
    """As config.json calls it; embeddings are tied."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int = 128_256
    max_position_embeddings: int = 131_072


SHAPES = {
    "llama-3.2-1b": Shape(2048, 8192, 16, 32, 8, 64),
    "llama-3.2-3b": Shape(3072, 8192, 28, 24, 8, 128),
    # Llama's layers at a tenth of the size: what a service costs shows on few cores, too.
    "llama-100m": Shape(640, 1728, 16, 10, 5, 64, vocab_size=32_768, max_position_embeddings=8192),
}


def write(name: str, directory: Path) -> Path:
    """Write a checkpoint of SHAPES in F16, unless it is there, and return its directory."""
    if (directory / "config.json").is_file():
        return directory
    shape = SHAPES[name]
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, shape.vocab_size, specials=SPECIALS)
    generation = json.loads((directory / "generation_config.json").read_text("utf-8"))
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **asdict(shape),
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "torch_dtype": "float16",
        **generation,
    }
    tensors = LlamaConfig.model_validate(settings).shapes()
    _write_weights(directory / "model.safetensors", tensors)
    # Last: whoever finds it finds a whole checkpoint.
    (directory / "config.json").write_text(json.dumps(settings), "utf-8")
    return directory


def _write_weights(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file, ThreadPoolExecutor(4) as pool:
        file.write(len(text).to_bytes(8, "little") + text)
        for chunk in pool.map(lambda part: _values(*part), _parts(tensors)):
            file.write(chunk.data)


def _parts(tensors: dict[str, tuple[int, ...]]) -> Iterator[tuple[int, str, tuple[int, ...], int, int]]:
    """A seed, a tensor's name and whole shape, and which rows of it."""
    seed = 0
    for name, shape in tensors.items():
        for begin in range(0, shape[0], CHUNK_ROWS):
            seed += 1
            yield seed, name, shape, begin, min(begin + CHUNK_ROWS, shape[0])


def _values(seed: int, name: str, shape: tuple[int, ...], begin: int, end: int) -> NDArray[np.float16]:
    if len(shape) == 1:
        return np.ones(end - begin, np.float16)
    values = np.random.default_rng(seed).standard_normal((end - begin, shape[1]), dtype=np.float32)
    values *= np.float32(1 / np.sqrt(shape[1]))
    if name == "model.embed_tokens.weight":
        numbers = np.arange(begin, end)
        values[(numbers < BYTES) | (numbers >= shape[0] - SPECIALS)] = 0
    return values.astype(np.float16)
