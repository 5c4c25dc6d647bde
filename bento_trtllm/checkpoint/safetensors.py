"""The tensors of a checkpoint's *.safetensors files, read from the headers only.

A file is a little-endian u64 (the header's length in bytes), the header in JSON, and then the tensors' bytes,
row-major and little-endian. See https://github.com/huggingface/safetensors#format.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError

from bento_trtllm.errors import CheckpointError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# numpy has no BF16: its raw bits are used instead.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class Tensor:
    """Where one tensor is stored.

    `dtype` is safetensors' name (BF16, F16, F32, F8_E4M3, …); `offset` is in bytes from the start of `shard`.
    """

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    def open(self) -> NDArray[Any]:
        """The tensor as a read-only memory map of `shape`; BF16 as raw bits, uint16.

        Raises KeyError for a dtype that is not in NUMPY_TYPES.
        """
        dtype = NUMPY_TYPES[self.dtype]
        return np.memmap(self.shard, dtype=dtype, mode="r", offset=self.offset, shape=self.shape)


class _Entry(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(BaseModel):
    weight_map: dict[str, str]


_Header = TypeAdapter(dict[str, _Entry])


def read_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises CheckpointError if the file is not complete."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = 8 + length
        if size < 8 or start > size:
            raise CheckpointError(_cut_short(path, size, start if size >= 8 else None))
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        entries = _Header.validate_python(header)
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header cannot be read") from error
    end = start + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if size < end:
        raise CheckpointError(_cut_short(path, size, end))
    return {
        name: Tensor(
            path, entry.dtype, entry.shape, start + entry.data_offsets[0],
            entry.data_offsets[1] - entry.data_offsets[0],
        )
        for name, entry in entries.items()
    }  # fmt: skip


def read_shards(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name, from model.safetensors or from the shards that its index names.

    Raises CheckpointError if a shard is missing, incomplete, or lacks a tensor that the index places in it.
    """
    if (directory / SINGLE).is_file():
        return read_shard(directory / SINGLE)
    if not (directory / INDEX).is_file():
        found = sorted(path.name for path in directory.glob("*.bin")) or ["none"]
        raise CheckpointError(
            f"{directory} has no {SINGLE} and no {INDEX} (other weights there: {', '.join(found)}): "
            "save it again with save_pretrained(safe_serialization=True)"
        )
    try:
        places = _Index.model_validate_json((directory / INDEX).read_bytes()).weight_map
    except ValidationError as error:
        raise CheckpointError(f"{directory / INDEX} is not an index of shards") from error
    names = sorted(set(places.values()))
    if outside := [name for name in names if os.path.basename(name) != name]:  # noqa: PTH119
        raise CheckpointError(f"{directory / INDEX} names a shard outside its directory: {outside[0]}")
    if missing := [name for name in names if not (directory / name).is_file()]:
        raise CheckpointError(
            f"{directory} lacks {len(missing)} of the {len(names)} shards that {INDEX} names: "
            f"{', '.join(missing)}; download the checkpoint again"
        )
    shards = {name: read_shard(directory / name) for name in names}
    for tensor, name in places.items():
        if tensor not in shards[name]:
            raise CheckpointError(f"{directory / name} lacks the tensor {tensor} that {INDEX} places in it")
    return {tensor: shards[name][tensor] for tensor, name in places.items()}


def _cut_short(path: Path, size: int, expected: int | None) -> str:
    of = "" if expected is None else f" of at least {expected:,}"
    return f"{path} is cut short: {size:,} bytes{of}; copy or download it again"
