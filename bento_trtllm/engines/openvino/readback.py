"""Whether a written IR holds a checkpoint's weights: rows of every tensor, read back from the file.

How they were rounded is not looked at: a weight must lie as near to the checkpoint's as its precision allows.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.values import widen
from bento_trtllm.engines.openvino.ir import MODEL, WEIGHTS
from bento_trtllm.engines.openvino.weights import Part, Stored
from bento_trtllm.errors import EngineError

Array = NDArray[np.float32]
SAMPLE = 1 << 20
"""How many weights of a tensor are read, in evenly spaced rows: all of them in a small model, 3 % of an 8B's."""
TYPES: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i8": np.int8, "i4": np.uint8}
"""numpy's types for a part's bytes; a byte holds two of i4."""
TINY = 2.0**-25
"""Half of f16's smallest number; int4's scales are f16, too."""


def check_weights(weights: Sequence[Stored], directory: Path) -> None:
    """Raise EngineError, in one sentence, for a weight that differs from the checkpoint's."""
    places = _places(directory / MODEL)
    for each in weights:
        step = -(-each.parts[0].elements // SAMPLE)
        rows = widen(each.tensor.open()[::step])
        parts = (_open(part, places[part.name], directory / WEIGHTS)[::step] for part in each.parts)
        found = _decode(each, *parts).reshape(rows.shape)
        wrong = _differ(each, found, rows)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise EngineError(
                f"the packed engine has {found[at]:g} in {each.name} where the checkpoint has {rows[at]:g}: "
                "what was written is not what is read; check this machine's disk and memory, and pack again"
            )


def _places(model: Path) -> dict[str, int]:
    """Where each constant begins in WEIGHTS, by its name."""
    places = {}
    for layer in ET.parse(model).iterfind("layers/layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            places[layer.get("name", "")] = int(data.get("offset", ""))
    return places


def _open(part: Part, begin: int, file: Path) -> NDArray[Any]:
    *outer, last = part.shape
    shape = (*outer, last // 2 if part.type == "i4" else last)
    return np.memmap(file, TYPES[part.type], "r", begin, shape)


def _decode(stored: Stored, values: NDArray[Any], *scales: NDArray[Any]) -> Array:
    """Weights as f32."""
    if stored.precision == "int4":
        halves = np.stack([values & 15, values >> 4], -1).astype(np.int8)
        values = np.where(halves > 7, halves - 16, halves).reshape(*values.shape[:-1], -1)
    if scales:
        return np.asarray(values * scales[0].astype(np.float32), np.float32)
    return widen(values)


def _differ(stored: Stored, found: Array, rows: Array) -> NDArray[np.bool_]:
    """Which weights are off by more than half the distance of two neighbours, where these are spaced evenly."""
    if stored.precision == "f32":
        return np.asarray(found != rows)
    size, off = np.abs(rows), np.abs(found - rows)
    if stored.precision == "int8":
        bound = size.max(1, keepdims=True) * np.float32(0.501 / 127)
    elif stored.precision == "int4":
        # From -8 to 7, and moved by the least squares: the outermost may be off by one and a half.
        groups = size.reshape(len(rows), -1, stored.group).max(2) * np.float32(1.5 / 8) + np.float32(8 * TINY)
        bound = groups.repeat(stored.group, 1)
    else:
        bound = size * np.float32(2**-11 if stored.precision == "f16" else 2**-8) + np.float32(TINY)
    # Not the other way round: NaN compares as false.
    return np.asarray(~(off <= bound))
