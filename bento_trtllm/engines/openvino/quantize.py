"""Matrices as the engine keeps them: rounded to a type, or quantised to integers with scales of their own.

Everything is symmetric: a weight is an integer times its scale, and 0 stays 0.
"""

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.values import Array

F16_LIMIT = 65504.0
GROUPS = (128, 64, 32)
"""How many weights of a row share a scale in int4: the first of these that divides it. NNCF's default is 128."""


def to_int8(rows: Array) -> tuple[NDArray[np.int8], Array]:
    """[n, columns] as int8 with a scale a row, [n, 1]."""
    scales = _nonzero(np.abs(rows).max(1, keepdims=True) / np.float32(127))
    return np.clip(np.rint(rows / scales), -127, 127).astype(np.int8), scales


def group_size(columns: int) -> int | None:
    """How many weights of a row share a scale in int4; None where a row of that length cannot be cut into groups."""
    return next((size for size in GROUPS if columns % size == 0), None)


def to_int4(rows: Array, group: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """[n, columns] as integers from -8 to 7, [n, columns / group, group], with f16 scales, [n, columns / group, 1].

    The largest weight of a group becomes -8, and so uses all 16 values; the scale is then the one of least squares.
    """
    groups = rows.reshape(len(rows), -1, group)
    at = np.abs(groups).argmax(2, keepdims=True)
    scales = _half(np.take_along_axis(groups, at, 2) / np.float32(-8))
    whole = np.clip(np.rint(groups / scales), -8, 7)
    squares = (whole * whole).sum(2, keepdims=True)
    scales = _half((groups * whole).sum(2, keepdims=True) / np.where(squares == 0, np.float32(1), squares))
    return np.clip(np.rint(groups / scales), -8, 7).astype(np.int8), scales.astype(np.float16)


def packed(whole: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Integers of four bits, two a byte: the first in the low half, as OpenVINO's i4 has them."""
    flat = whole.reshape(-1, 2)
    return ((flat[:, 0] & 15) | (flat[:, 1] & 15) << 4).astype(np.uint8)


def _half(scales: Array) -> Array:
    return _nonzero(scales.astype(np.float16).astype(np.float32))


def _nonzero(scales: Array) -> Array:
    return np.where(scales == 0, np.float32(1), scales)
