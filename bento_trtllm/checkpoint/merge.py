"""A LoRA adapter added to a checkpoint's weights for good: W + scale * B @ A, computed in f32.

The result is a checkpoint of its own, in the types of the original. It is written some megabytes at a time, so memory
stays bounded, whatever the size of the checkpoint.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from tqdm import tqdm
from typing_extensions import Self

from bento_trtllm.checkpoint.adapter import Adapter, Pair, read_adapter
from bento_trtllm.checkpoint.checkpoint import Checkpoint, read_checkpoint
from bento_trtllm.checkpoint.safetensors import INDEX, NUMPY_TYPES, SINGLE, Tensor
from bento_trtllm.checkpoint.values import Array, to_bf16, widen
from bento_trtllm.errors import CheckpointError

SLICE_ELEMENTS = 1 << 22
FORMATS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
"""Of files that hold weights: those of the original are not those of the result."""


def read_mergeable(argument: str, checkpoint: Checkpoint) -> Adapter:
    """The adapter in a directory. Raises CheckpointError where it cannot be merged into the checkpoint."""
    adapter = read_adapter(argument, checkpoint)
    found = {checkpoint.tensors[name].dtype for name in adapter.pairs} - NUMPY_TYPES.keys()
    if checkpoint.quantized or found:
        how = checkpoint.quantized or ", ".join(sorted(found))
        raise CheckpointError(
            f"{checkpoint.source} is quantised already ({how}): merge the adapter into the original checkpoint"
        )
    return adapter


@dataclass(frozen=True)
class Merge:
    """A Change: the merging of an adapter, which was named so."""

    argument: str
    checkpoint: Checkpoint
    adapter: Adapter

    @classmethod
    def read(cls, argument: str, checkpoint: Checkpoint) -> Self:
        """Raises CheckpointError where it cannot be merged into the checkpoint."""
        return cls(argument, checkpoint, read_mergeable(argument, checkpoint))

    @property
    def options(self) -> dict[str, str]:
        return {"merge-lora": self.argument}

    def plan(self) -> JsonValue:
        return {"adapter": str(self.adapter.path), "weights": len(self.adapter.pairs)}

    def write(self, directory: Path) -> Checkpoint:
        return merge(self.checkpoint, self.adapter, directory)


def merge(checkpoint: Checkpoint, adapter: Adapter, directory: Path) -> Checkpoint:
    """Write the merged checkpoint into a new directory; its source is that of the original.

    Raises CheckpointError where a merged weight is no number, or too large for its type, and OSError.
    """
    directory.mkdir()
    for file in {*checkpoint.path.iterdir(), *checkpoint.tokenizer_files}:
        if file.is_file() and file.suffix not in FORMATS and file.name != INDEX:
            link = directory / file.relative_to(checkpoint.path)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file.resolve())
    with (directory / SINGLE).open("wb") as file_out:
        header = _header(checkpoint)
        file_out.write(len(header).to_bytes(8, "little") + header)
        with tqdm(total=checkpoint.nbytes, desc="merge", unit="B", unit_scale=True, disable=None) as bar:
            for name, tensor in checkpoint.tensors.items():
                for part in _parts(name, tensor, adapter):
                    file_out.write(np.ascontiguousarray(part).data)
                    bar.update(part.nbytes)
    return read_checkpoint(directory, checkpoint.source)


def _header(checkpoint: Checkpoint) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in checkpoint.tensors.items():
        end = offset + tensor.nbytes
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8)


def _parts(name: str, tensor: Tensor, adapter: Adapter) -> Iterator[NDArray[Any]]:
    """Some rows of a tensor at a time, in its own type."""
    source, pair = tensor.open(), adapter.pairs.get(name)
    step = max(1, SLICE_ELEMENTS * len(source) // max(1, source.size))
    for start in range(0, len(source), step):
        rows = source[start : start + step]
        yield rows if pair is None else _sum(name, tensor, rows, start, pair)


def _sum(name: str, tensor: Tensor, rows: NDArray[Any], start: int, pair: Pair) -> NDArray[Any]:
    b = widen(pair.b.open()[start : start + len(rows)])
    with np.errstate(over="ignore", invalid="ignore"):
        values = widen(rows) + np.float32(pair.scale) * (b @ widen(pair.a.open()))
        merged = _narrow(values, tensor.dtype)
    if not (np.isfinite(values).all() and np.isfinite(widen(merged)).all()):
        raise CheckpointError(
            f"{pair.a.shard} merged into {name} gives a value that is no number or too large for {tensor.dtype}: the "
            "adapter is damaged, or was not trained on this checkpoint"
        )
    return merged


def _narrow(values: Array, dtype: str) -> NDArray[Any]:
    """f32 rounded to the nearest of a type; bf16 as its bits."""
    if dtype == "BF16":
        return to_bf16(values)
    return values.astype(NUMPY_TYPES[dtype])
