"""One request's answer, as Triton takes it: NVIDIA's output tensors, errors, and the last response's flag."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from faults import INVALID_REQUEST, Fault
from outbox import Piece, Scores

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Reply:
    """A request's response sender, and which outputs the request asked for.

    `name` is the id by which its client can say that it has left, "" for none; `prompt` is the prompt where the answer
    begins with it, `input_tokens` how many tokens it has.
    """

    def __init__(self, request: Any) -> None:
        self.name: str = request.request_id()
        self._left = False
        self._sender = request.get_response_sender()
        self._wanted = list(request.requested_output_names())
        self.prompt: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self.input_tokens = 0

    def send(self, piece: Piece, final: bool) -> None:
        """Send a response. Raises when Triton has dropped the request."""
        tensors = [pb_utils.Tensor(name, self._value(name, piece)) for name in self._wanted]
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=FINAL if final else 0)

    def refuse(self, tensor: str, message: str) -> None:
        """End the request with an error that is its own fault."""
        self.end(Fault(INVALID_REQUEST, message, tensor))

    def end(self, fault: Fault | None = None) -> None:
        """End the request with an error, or without a word."""
        if fault is None:
            self._sender.send(flags=FINAL)
            return
        error = pb_utils.TritonError(str(fault))
        self._sender.send(pb_utils.InferenceResponse(output_tensors=[], error=error), flags=FINAL)

    def leave(self) -> None:
        """Its client says that it has left."""
        self._left = True

    @property
    def left(self) -> bool:
        """Whether its client has said that it has left."""
        return self._left

    def is_cancelled(self) -> bool:
        """Whether its client has left, as it said or as Triton knows, which takes some 40 µs to ask."""
        return self.left or bool(self._sender.is_cancelled())

    def _value(self, name: str, piece: Piece) -> np.ndarray[Any, Any]:
        """One output of a response, [1, 1] or, what has an element a token, [1, 1, n]."""
        prompt = () if self.prompt is None else self.prompt
        match name:
            case "output_ids":
                return np.array([[[*prompt, *piece.tokens]]], np.int32)
            case "output_log_probs":
                return np.array([[piece.log_probs]], np.float32)
            case "cum_log_probs":
                return np.array([[piece.cum_log_prob]], np.float32)
            case "sequence_length":
                return np.array([[len(prompt) + len(piece.tokens)]], np.int32)
            case "num_output_tokens":
                return np.array([[len(piece.tokens)]], np.int32)
            case "num_cached_tokens":
                return np.array([[piece.cached_tokens]], np.int32)
            case "num_input_tokens":
                return np.array([[self.input_tokens]], np.int32)
            case "sequence_index":
                return np.array([[piece.index]], np.int32)
            case "top_token_ids" | "top_log_probs":
                return _top(name, piece.scores)[np.newaxis, np.newaxis]
            case "prompt_log_probs":
                return np.array([piece.prompt.log_probs if piece.prompt else []], np.float32)
            case "prompt_ranks":
                return np.array([piece.prompt.ranks if piece.prompt else []], np.int32)
            case "prompt_top_token_ids" | "prompt_top_log_probs":
                return _top(name, piece.prompt)[np.newaxis]
            case _:  # batch_index, the last of the model's outputs: a request has one prompt
                return np.array([[0]], np.int32)


def _top(name: str, scores: Scores | None) -> np.ndarray[Any, Any]:
    """The likeliest tokens' ids, or their log probabilities: [tokens, so many]."""
    values: Any = ()
    ids = name.endswith("ids")
    if scores and scores.log_probs:
        values = scores.top_ids if ids else scores.top_log_probs
    dtype = np.int32 if ids else np.float32
    return np.array(values, dtype) if len(values) else np.empty((0, 0), dtype)
