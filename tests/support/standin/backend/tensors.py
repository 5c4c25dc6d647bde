"""A request's tensors, read as the backend reads them: utils.cc and utils.h of its source.

What is read is bytes: a tensor of another type than the one that is written here would be read as this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from upstream import BACKEND, LIBRARY, failed, thrown

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]
Words = tuple[tuple[int, ...], ...]

UTILS_H = f"{BACKEND}utils.h"
UTILS = f"{BACKEND}utils.cc"

SAMPLING = {
    "beam_width": "i4",
    "runtime_top_k": "i4",
    "runtime_top_p": "f4",
    # Yes: upstream never reads runtime_top_p_min (utils.h, "topPMin").
    "runtime_top_k_min": "f4",
    "runtime_top_p_decay": "f4",
    "runtime_top_p_reset_ids": "i4",
    "temperature": "f4",
    "len_penalty": "f4",
    # int32 of a tensor that upstream's configuration says is BOOL: three of the four bytes are not the request's.
    "early_stopping": "i4",
    "repetition_penalty": "f4",
    "min_tokens": "i4",
    "beam_search_diversity_rate": "f4",
    "presence_penalty": "f4",
    "frequency_penalty": "f4",
    "seed": "u8",
    "num_return_sequences": "i4",
}
"""Scalars of executor::SamplingConfig, by their names of 1.x."""
OUTPUT = ("return_log_probs", "return_generation_logits", "return_context_logits", "return_perf_metrics")
OLD_NAMES = {"seed": "random_seed", "min_tokens": "min_length"}
GUIDES = ("json", "json_schema", "regex", "ebnf_grammar")


@dataclass(frozen=True)
class Request:
    """An executor::Request. Numbers that are None were not sent."""

    input_ids: tuple[int, ...]
    max_tokens: int
    streaming: bool
    exclude_input: bool
    end_id: int | None = None
    pad_id: int | None = None
    stop_words: Words = ()
    bad_words: Words = ()
    embedding_bias: tuple[float, ...] = ()
    guide: tuple[str, str] | None = None
    sampling: Mapping[str, int | float | None] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)
    """OUTPUT."""

    @property
    def sequences(self) -> int:
        return int(self.sampling.get("num_return_sequences") or 1)


def singleton(tensors: Tensors, name: str, dtype: str) -> int | float | bool | None:
    """The value of a tensor that has one element; None where it was not sent."""
    if name not in tensors:
        return None
    if tensors[name].size != 1:
        raise failed(f"Invalid size for tensor {name}", f"{UTILS_H}:250")
    width = np.dtype(dtype).itemsize
    raw = tensors[name].tobytes().ljust(width, b"\0")
    return np.frombuffer(raw[:width], dtype)[0].item()  # type: ignore[no-any-return]


def vector(tensors: Tensors, name: str, dtype: str = "i4") -> Array | None:
    """All elements of a tensor, whatever its shape."""
    return None if name not in tensors else np.frombuffer(tensors[name].tobytes(), dtype)


def words(tensors: Tensors, name: str) -> Words:
    """convertWordList: the first half are ids, the second the words' ends."""
    flat = vector(tensors, name)
    if flat is None:
        return ()
    listed = "".join(f"{value} " for value in flat)
    if len(flat) % 2:
        raise failed(f"Sparse list must not have odd length: {listed}", f"{UTILS}:420")
    count = len(flat) // 2
    ids, ends = flat[:count].tolist(), flat[count:].tolist()
    found = []
    start = 0
    for i, end in enumerate(ends):
        if end == -1:
            if any(other != -1 for other in ends[i:]):
                raise failed(f"Sparse list must not have additional -1s: {listed}", f"{UTILS}:430")
            break
        if end > count:
            raise failed(f"Sparse list must not have out-of-bound offsets: {listed}", f"{UTILS}:434")
        if i and end <= ends[i - 1]:
            raise failed(f"Sparse list must not have non-increasing offsets: {listed}", f"{UTILS}:438")
        found.append(tuple(ids[start:end]))
        start = end
    return tuple(found)


def text(tensors: Tensors, name: str) -> str | None:
    """A string as it comes, with four bytes of its length before it, which upstream cuts off."""
    return None if name not in tensors else tensors[name].reshape(-1)[0].decode("utf-8", "surrogateescape")


def guide(tensors: Tensors) -> tuple[str, str] | None:
    """A guide of a type that is not in the list counts as none at all."""
    kind = text(tensors, "guided_decoding_guide_type")
    if kind not in GUIDES:
        return None
    given = text(tensors, "guided_decoding_guide")
    if given is None and kind != "json":
        raise failed(
            "The guide string must be provided unless using GuideType::kJSON.",
            f"{LIBRARY}executor/guidedDecodingParams.cpp:29",
        )
    return kind, given or ""


def split(tensors: Tensors) -> list[Tensors]:
    """splitBatchInputsTensors of 1.x: one prompt a request of the Executor."""
    ids = tensors.get("input_ids")
    if ids is None:
        raise thrown("inputTokens or encoderInputFeatures tensor not provided", f"{UTILS}:178")
    if ids.ndim != 2:
        raise failed("Expected inputTokens tensors to have 2 dimensions", f"{UTILS}:167")
    if len(ids) == 1:
        return [tensors]
    if "input_lengths" not in tensors:
        raise failed("input lengths tensor not provided", f"{UTILS}:185")
    lengths = tensors["input_lengths"]
    if lengths.ndim != 1:
        raise failed("Expected inputLengths tensors to have 1 dimension", f"{UTILS}:188")
    rows = [{name: tensor[i : i + 1] for name, tensor in tensors.items()} for i in range(len(ids))]
    return [{**row, "input_ids": row["input_ids"][:, : lengths[i]]} for i, row in enumerate(rows)]


def requests(tensors: Tensors, *, old: bool, exclude_input: bool) -> list[Request]:
    """createRequestsFromInputTensors; `old` is 0.10.0, which knows no batch. `exclude_input` is the parameter."""
    streaming = bool(tensors["streaming"].reshape(-1)[0]) if "streaming" in tensors else False
    rest = {name: tensor for name, tensor in tensors.items() if name not in ("stop", "streaming")}
    return [_request(each, old, streaming, exclude_input) for each in ([rest] if old else split(rest))]


def _request(tensors: Tensors, old: bool, streaming: bool, exclude_input: bool) -> Request:
    flags = {name: bool(singleton(tensors, name, "?") or False) for name in OUTPUT}
    exclude = None if old else singleton(tensors, "exclude_input_in_output", "?")
    ids = vector(tensors, "input_ids")
    if ids is None:
        raise RuntimeError("input_ids is not present in the request")
    max_tokens = singleton(tensors, "request_output_len", "i4")
    if max_tokens is None:
        raise RuntimeError("request_output_len is not present in the request")
    end_id, pad_id = singleton(tensors, "end_id", "i4"), singleton(tensors, "pad_id", "i4")
    named = {name: OLD_NAMES.get(name, name) if old else name for name in SAMPLING}
    sampling = {name: singleton(tensors, named[name], dtype) for name, dtype in SAMPLING.items()}
    if (sampling["runtime_top_p"] or 0) <= 0:
        sampling["runtime_top_p"] = None
    bias = vector(tensors, "embedding_bias", "f4")
    return Request(
        input_ids=tuple(ids.tolist()),
        max_tokens=int(max_tokens),
        streaming=streaming,
        exclude_input=exclude_input if exclude is None else bool(exclude),
        end_id=None if end_id is None else int(end_id),
        pad_id=None if pad_id is None else int(pad_id),
        stop_words=words(tensors, "stop_words_list"),
        bad_words=words(tensors, "bad_words_list"),
        embedding_bias=() if bias is None else tuple(bias.tolist()),
        guide=None if old else guide(tensors),
        sampling=sampling,
        flags=flags,
    )
