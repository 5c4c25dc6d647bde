"""A response of the Executor as one of Triton: fillTritonResponse of model_instance_state.cc."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from executor import Response, Result
from upstream import BACKEND, TllmError, thrown

STATE = f"{BACKEND}model_instance_state.cc"
Tensor = tuple[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Asked:
    """RequestData: what a response depends on besides the result."""

    outputs: Collection[str]
    """The names that the client gave; all of the model's where it gave none."""
    prompt: int
    batch: int
    index: int
    sequences: int
    count_input: bool
    count_output: bool
    old: bool


def fill(response: Response, asked: Asked) -> tuple[list[pb_utils.Tensor], str, bool]:
    """The tensors, an error or "", and whether it is the last response of its request."""
    if response.result is None:
        text = f"Executor failed process requestId {response.id} due to the following error: {response.error}"
        return [], text, True
    try:
        tensors = _tensors(response.result, asked)
    except TllmError as error:
        return [], f"Error encountered while populating response: {error}", True
    return [pb_utils.Tensor(name, value) for name, value in tensors], "", response.result.final


def _tensors(result: Result, asked: Asked) -> list[Tensor]:
    for name, line in (("output_ids", 1096), ("sequence_length", 1109)):
        if name not in asked.outputs:
            raise thrown(f"{name} tensor must be present in list of output tensors", f"{STATE}:{line}")
    ids = np.array([[result.tokens]], np.int32).reshape(1, 1, -1)
    tensors: list[Tensor] = [("output_ids", ids), ("sequence_length", np.array([[ids.size]], np.int32))]
    scores = result.log_probs
    if scores is None and asked.old:
        # Zeros, so many as the prompt has tokens (0.10.0: model_instance_state.cc:760).
        scores = [0.0] * asked.prompt
    if scores is not None:
        tensors.append(("output_log_probs", np.array([[scores]], np.float32).reshape(1, 1, -1)))
    cumulated = 0.0 if result.cum_log_prob is None and asked.old else result.cum_log_prob
    if cumulated is not None:
        tensors.append(("cum_log_probs", np.array([[cumulated]], np.float32)))
    if asked.batch > 1:
        tensors.append(("batch_index", np.array([[asked.index]], np.int32)))
    if asked.sequences > 1:
        tensors.append(("sequence_index", np.array([[result.sequence]], np.int32)))
    if asked.count_input:
        tensors.append(("num_input_tokens", np.array([[asked.prompt]], np.int32)))
    if asked.count_output:
        tensors.append(("num_output_tokens", np.array([[ids.size]], np.int32)))
    return [(name, value) for name, value in tensors if name in asked.outputs]
