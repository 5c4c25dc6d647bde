"""A checkpoint's numbers: from the types of its files to f32 and back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def widen(part: NDArray[Any]) -> Array:
    """f16 or f32 values, or bf16's bits as uint16, as f32: exact."""
    if part.dtype == np.uint16:
        return (part.astype(np.uint32) << 16).view(np.float32)
    return part.astype(np.float32, copy=False)


def to_bf16(rows: Array) -> NDArray[np.uint16]:
    """The nearest bf16s, ties to even, as their bits."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
