"""A checkpoint's tensors as openvino_model.bin has them, written some megabytes at a time.

Memory stays bounded whatever the size of the checkpoint: the tensors are memory-mapped one after another, and
converted in slices. Vectors are f32 always; so is what the file has of them besides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import Tensor
from bento_trtllm.checkpoint.values import Array, to_bf16, widen
from bento_trtllm.engines.openvino import quantize
from bento_trtllm.engines.openvino.options import Precision
from bento_trtllm.errors import CheckpointError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SENSITIVE = {EMBEDDING, HEAD}
"""Matrices that int4 leaves in int8, as NNCF does: every token passes them, and they decide between neighbours."""

LIMITS: dict[Precision, float] = {
    "f32": float(np.finfo(np.float32).max),
    "f16": quantize.F16_LIMIT,
    "bf16": 3.38953139e38,
    "int8": float(np.finfo(np.float32).max),
    "int4": 8 * quantize.F16_LIMIT,  # a scale is f16
}
"""The largest magnitudes."""

BITS = {"f32": 32, "f16": 16, "bf16": 16, "i8": 8, "i4": 4}
"""Of OpenVINO's types, by what an IR calls them."""

ALIGNMENT = 64
SLICE_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Part:
    """An array of the file: `type` as an IR calls it."""

    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def is_half(self) -> bool:
        return self.type in ("f16", "bf16")

    @property
    def nbytes(self) -> int:
        return self.elements * BITS[self.type] // 8


@dataclass(frozen=True)
class Stored:
    """A tensor on its way into the file: its values, [out, in] or in groups, and behind them the scales they need."""

    name: str
    tensor: Tensor
    precision: Precision
    group: int = 0
    """Weights per scale; 0 where a scale is a whole row's, or there is none."""

    @property
    def parts(self) -> tuple[Part, ...]:
        shape, scales = self.tensor.shape, f"{self.name}.scales"
        if self.precision == "int8":
            return Part(self.name, "i8", shape), Part(scales, "f32", (shape[0], 1))
        if self.precision == "int4":
            groups = (shape[0], shape[1] // self.group)
            return Part(self.name, "i4", (*groups, self.group)), Part(scales, "f16", (*groups, 1))
        return (Part(self.name, self.precision, shape),)

    @property
    def nbytes(self) -> int:
        """Bytes in the file, padding included."""
        return sum(-(-part.nbytes // ALIGNMENT) * ALIGNMENT for part in self.parts)

    def write(self, file: BinaryIO, written: Callable[[int], object]) -> Iterator[tuple[Part, int]]:
        """Append each part, and say where it begins. Raises CheckpointError for a value that does not fit."""
        begin = _align(file)
        scales = []
        for rows in self._slices():
            values, *of_rows = self._encode(rows)
            scales += of_rows
            file.write(np.ascontiguousarray(values).data)
            written(rows.size)
        yield self.parts[0], begin
        if scales:
            begin = _align(file)
            file.write(np.concatenate(scales).data)
            yield self.parts[1], begin

    def _slices(self) -> Iterator[Array]:
        """Some rows at a time, [n, in]; a vector at once."""
        source = self.tensor.open()
        step = max(1, SLICE_ELEMENTS * len(source) // max(1, source.size))
        for start in range(0, len(source), step):
            rows = widen(source[start : start + step])
            largest = float(np.abs(rows).max(initial=0))
            # Not the other way round: NaN compares as false.
            if not largest <= LIMITS[self.precision]:
                raise CheckpointError(self._does_not_fit(largest))
            yield rows

    def _encode(self, rows: Array) -> tuple[NDArray[Any], ...]:
        """The values, and their scales if they have any."""
        if self.precision == "int8":
            return quantize.to_int8(rows)
        if self.precision == "int4":
            whole, scales = quantize.to_int4(rows, self.group)
            return quantize.packed(whole), scales
        if self.precision == "bf16":
            return (to_bf16(rows),)
        return (rows.astype(np.float16 if self.precision == "f16" else np.float32, copy=False),)

    def _does_not_fit(self, largest: float) -> str:
        where = f"{self.tensor.shard}: {self.name}"
        if isfinite(largest):
            return f"{where} holds {largest:g}, beyond {self.precision}'s {LIMITS[self.precision]:g}: pack with " + (
                "--precision bf16"
            )
        return f"{where} holds a value that is infinite or not a number: the checkpoint is damaged"


def stored(checkpoint: Checkpoint, precision: Precision) -> list[Stored]:
    """What becomes of each tensor, in the order of the file."""
    return [_stored(name, tensor, precision) for name, tensor in checkpoint.tensors.items()]


def _stored(name: str, tensor: Tensor, precision: Precision) -> Stored:
    if len(tensor.shape) == 1:
        return Stored(name, tensor, "f32")
    if precision == "int4":
        group = None if name in SENSITIVE else quantize.group_size(tensor.shape[1])
        return Stored(name, tensor, "int4", group) if group else Stored(name, tensor, "int8")
    return Stored(name, tensor, precision)


def _align(file: BinaryIO) -> int:
    """Fill up to where an array may begin."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    return file.tell()
