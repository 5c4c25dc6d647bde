"""The stand-in for NVIDIA's backend: ModelInstanceState of model_instance_state.cc, in Python.

Triton loads it as the backend `tensorrtllm` (a Python-based backend: model.py in the backend's folder), with whatever
config.pbtxt the pack has.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from answer import Asked, fill
from checks import Limits, check_made
from door import Door
from executor import Executor, Response
from metrics import Metrics
from source import Source
from tensors import Request, requests

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
PERIOD_MS = 100
LEAK_LIMIT_S = 120


@dataclass
class Data:
    """RequestData: a request of Triton's, which has several of the Executor's for a batch."""

    sender: Any
    name: str
    pending: set[int]
    asked: Asked


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        inputs = {tensor["name"] for tensor in config["input"]}
        self._inputs = inputs
        self._old = "random_seed" in inputs
        self._door = Door()
        self._door.load()
        engine = Path(parameters["gpt_model_path"])
        if not self._old:
            # Asked for with no default: without any of them the model does not load (model_instance_state.cc:413).
            for name in ("tokenizer_dir", "xgrammar_tokenizer_info_path", "guided_decoding_backend"):
                parameters[name]
        self._exclude_input = parameters.get("exclude_input_in_output") == "true"
        self._check_s = int(parameters.get("cancellation_check_period_ms", PERIOD_MS)) / 1000
        self._stats_s = int(parameters.get("stats_check_period_ms", PERIOD_MS)) / 1000
        limits = Limits.read(engine, parameters)
        source = Source(engine / "rank0.engine", limits.max_batch_size)
        version = args["model_version"]
        self._metrics = Metrics(args["model_name"], version, self._old, source.blocks, limits.max_batch_size)
        self._lock = threading.Lock()
        self._data: dict[int, Data] = {}
        self._leaks = 0
        self._closing = threading.Event()
        self._executor = Executor(
            source,
            limits,
            self._door,
            # Left out, it is true (model_instance_state.cc:503; 0.10.0: 336).
            normalize_log_probs=parameters.get("normalize_log_probs", "true") == "true",
            respond=self._respond,
            log_error=pb_utils.Logger.log_error,
        )
        self._waiting = [
            threading.Thread(target=wait, daemon=True) for wait in (self._wait_for_cancel, self._wait_for_stats)
        ]
        for thread in self._waiting:
            thread.start()

    def execute(self, calls: list[Any]) -> None:
        """enqueue: an exception here is the request's answer."""
        for call in calls:
            try:
                if not self._stop(call):
                    self._enqueue(call)
            except RuntimeError as error:
                self._answer_call(call, pb_utils.TritonError(str(error)))

    def finalize(self) -> None:
        self._closing.set()
        self._executor.close()
        # What they tell Triton goes by way of memory that is gone when the interpreter ends.
        for thread in self._waiting:
            thread.join()
        self._metrics.close()
        # A response factory that nobody deletes holds Triton's model: it ends after its exit timeout, not before.
        limit = time.monotonic() + LEAK_LIMIT_S
        parent = os.getppid()
        while self._leaks and time.monotonic() < limit and os.getppid() == parent:
            time.sleep(0.05)

    def _stop(self, call: Any) -> bool:
        """handleStopRequest: answered at once, by Triton's own thread, whatever the Executor is at."""
        stop = pb_utils.get_input_tensor_by_name(call, "stop")
        if stop is None or not stop.as_numpy().any():
            return False
        name = call.request_id()
        if not name:
            raise RuntimeError("Trying to stop a request but request ID is not provided")
        with self._lock:
            for request_id, data in self._data.items():
                if data.name == name:
                    self._executor.cancel(request_id)
        self._answer_call(call)
        return True

    def _answer_call(self, call: Any, error: Any = None) -> None:
        """sendEnqueueResponse, which leaks a response factory each time."""
        self._leaks += 1
        response = pb_utils.InferenceResponse(output_tensors=[], error=error)
        call.get_response_sender().send(response, flags=FINAL)

    def _enqueue(self, call: Any) -> None:
        tensors = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(call, name)
            if tensor is not None:
                tensors[name] = tensor.as_numpy()
        parsed = requests(tensors, old=self._old, exclude_input=self._exclude_input)
        for request in parsed:
            check_made(request)
            self._door.record(vars(request))

        def flag(name: str) -> bool:
            return name in tensors and bool(tensors[name].reshape(-1)[0])

        sender, outputs, name = call.get_response_sender(), call.requested_output_names(), call.request_id()

        def known(ids: list[int]) -> None:
            pending = set(ids)
            for index, (request_id, request) in enumerate(zip(ids, parsed, strict=True)):
                asked = self._asked(request, outputs, index, len(parsed), flag)
                self._data[request_id] = Data(sender, name, pending, asked)

        with self._lock:
            self._executor.enqueue(parsed, known)

    def _asked(self, request: Request, outputs: Any, index: int, batch: int, flag: Any) -> Asked:
        return Asked(
            outputs=outputs,
            prompt=len(request.input_ids),
            batch=batch,
            index=index,
            sequences=request.sequences,
            count_input=flag("return_num_input_tokens"),
            count_output=flag("return_num_output_tokens"),
            old=self._old,
        )

    def _respond(self, response: Response) -> None:
        """WaitForResponse, for one response."""
        with self._lock:
            data = self._data.get(response.id)
        if data is None:
            pb_utils.Logger.log_error("[TensorRT-LLM][ERROR] Unexpected response for a request ID that is not active")
            return
        tensors, error, last = fill(response, data.asked)
        if self._door.wish("reversed"):
            tensors.reverse()
        flags = 0
        if last:
            with self._lock:
                del self._data[response.id]
                data.pending.discard(response.id)
                flags = 0 if data.pending else FINAL
        reply = pb_utils.InferenceResponse(tensors, error=pb_utils.TritonError(error) if error else None)
        try:
            data.sender.send(reply, flags=flags)
        except Exception as failure:
            pb_utils.Logger.log_error(f"Cannot send response: {failure}")

    def _wait_for_cancel(self) -> None:
        while not self._closing.wait(self._check_s):
            for request_id in tuple(self._data):
                with self._lock:  # once the last response is sent, Triton must not be asked about the request
                    data = self._data.get(request_id)
                    if data and data.sender.is_cancelled():
                        self._executor.cancel(request_id)

    def _wait_for_stats(self) -> None:
        while not self._closing.wait(self._stats_s):
            latest = None
            while self._executor.stats:
                latest = self._executor.stats.popleft()
            if latest is not None:
                self._metrics.update(latest)
