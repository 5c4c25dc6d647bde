"""The Triton model `tensorrt_llm` with an engine that costs nothing: known tokens, at a set rate or at once.

Everything above the engine is as in service: the tensors, decoupled responses, cancellation. Like TensorRT-LLM's
C++ backend it sends one token a message and from several threads, so that the cost of a message is measured.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
# Asking costs as much as sending; TensorRT-LLM asks as often.
CANCELLATION_CHECK_S = 0.1


@dataclass
class Stream:
    """One request: `sent` of its `wanted` tokens have gone out, a message every `pause_s`."""

    sender: Any
    outputs: frozenset[str]
    wanted: int
    step: int
    pause_s: float
    checked: float
    sent: int = 0


class Sender(threading.Thread):
    """Serves its streams in turn: the one whose message is due first, and of several due ones the longest waiting."""

    def __init__(self, tokens: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        super().__init__(daemon=True)
        self._tokens = tokens
        self._due: list[tuple[float, int, Stream]] = []
        self._turns = itertools.count()
        self._wake = threading.Condition()
        self._closing = False

    def add(self, stream: Stream) -> None:
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() if stream.pause_s else 0.0, next(self._turns), stream))
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.join()

    def run(self) -> None:
        while True:
            with self._wake:
                while not self._closing and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closing:
                    return
                due, _, stream = heapq.heappop(self._due)
            if self._send(stream):
                with self._wake:
                    heapq.heappush(self._due, (due + stream.pause_s, next(self._turns), stream))

    def _send(self, stream: Stream) -> bool:
        """Send the next message; whether there will be more."""
        now = time.monotonic()
        if now - stream.checked > CANCELLATION_CHECK_S:
            stream.checked = now
            if stream.sender.is_cancelled():
                stream.sender.send(flags=FINAL)
                return False
        begin, stream.sent = stream.sent, min(stream.sent + stream.step, stream.wanted)
        ids = self._tokens[np.arange(begin, stream.sent) % len(self._tokens)].reshape(1, 1, -1)
        one = np.zeros((1, 1), np.int32)
        values = {"output_ids": ids}
        if len(stream.outputs) > 1:
            values |= {"sequence_length": one + ids.size, "sequence_index": one, "batch_index": one}
        tensors = [pb_utils.Tensor(name, value) for name, value in values.items() if name in stream.outputs]
        done = stream.sent == stream.wanted
        try:
            stream.sender.send(pb_utils.InferenceResponse(tensors), flags=FINAL if done else 0)
        except Exception as error:
            pb_utils.Logger.log_error(f"A response could not be sent: {error}")
            return False
        return not done


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        text = {name: value["string_value"] for name, value in parameters.items()}
        tokens = np.array(text["tokens"].split(), np.int32)
        self._step = int(text["tokens_per_message"])
        # A file, so that one run can measure several rates: tokens a second a stream, 0 for no limit.
        self._rate = Path(text["rate_file"])
        self._senders = [Sender(tokens) for _ in range(int(text["sending_threads"]))]
        for sender in self._senders:
            sender.start()
        self._next = itertools.cycle(self._senders)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            wanted = pb_utils.get_input_tensor_by_name(request, "request_output_len").as_numpy()
            streaming = pb_utils.get_input_tensor_by_name(request, "streaming")
            step = self._step if streaming is not None and streaming.as_numpy().any() else int(wanted.item())
            rate = float(self._rate.read_text())
            stream = Stream(
                request.get_response_sender(),
                frozenset(request.requested_output_names()),
                int(wanted.item()),
                step,
                step / rate if rate else 0.0,
                time.monotonic(),
            )
            next(self._next).add(stream)

    def finalize(self) -> None:
        for sender in self._senders:
            sender.close()
