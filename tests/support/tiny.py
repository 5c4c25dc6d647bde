"""Model repositories of a few lines, for a real Triton, and what a Triton may leave behind."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.limits import LIMIT_S

CONFIG = """backend: "python"
model_transaction_policy { decoupled: true }
input { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
ECHO = """
import os, sys, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        pb_utils.Logger.log_info("a line of the model's logger")
        print("a line that the model prints", flush=True)
        {initialize}

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for value in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
                time.sleep({pause_s})
                out = pb_utils.Tensor("OUT", np.array([value], np.int32))
                sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

INPUTS = dict.fromkeys(("input_ids", "input_lengths", "request_output_len"), "TYPE_INT32")
INPUTS |= {"streaming": "TYPE_BOOL"}
ENGINE = """
import os, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        while {still}:
            time.sleep(0.05)
        for request in requests:
            request.get_response_sender().send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        open(__file__ + ".answered", "w").close()
"""


def engine(folder: Path, still: str) -> Path:
    """Add a model `tensorrt_llm` that answers each request with nothing and then makes a file model.py.answered.

    But not while `still`, in Python.
    """
    (folder / "tensorrt_llm/1").mkdir(parents=True)
    inputs = [f'input {{ name: "{n}" data_type: {kind} dims: [ -1, -1 ] }}' for n, kind in INPUTS.items()]
    others = [line for line in CONFIG.splitlines() if not line.startswith(("input", "output"))]
    names = ("output_ids", "sequence_length")
    outputs = [f'output {{ name: "{name}" data_type: TYPE_INT32 dims: [ -1, -1 ] }}' for name in names]
    (folder / "tensorrt_llm/config.pbtxt").write_text("\n".join([*others, *inputs, *outputs]))
    (folder / "tensorrt_llm/1/model.py").write_text(ENGINE.format(still=still))
    return folder


def repository(folder: Path, name: str = "echo", initialize: str = "", pause_s: float = 0) -> Path:
    """Add a decoupled model that answers each number with itself; returns the repository."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(CONFIG)
    (folder / name / "1/model.py").write_text(ECHO.format(initialize=initialize, pause_s=pause_s))
    return folder


def echo(
    address: str,
    numbers: list[int],
    model: str = "echo",
    timeout_s: float = LIMIT_S,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Iterator[int]:
    """One request as one stream, item for item. Raises RuntimeError for an error that Triton reports."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="IN", datatype="INT32", shape=[len(numbers)])
    request.raw_input_contents.append(np.array(numbers, np.int32).tobytes())
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for response in stub.ModelStreamInfer(iter([request]), timeout=timeout_s, metadata=metadata):
            if response.error_message:
                raise RuntimeError(response.error_message)
            for raw in response.infer_response.raw_output_contents:
                yield from np.frombuffer(raw, np.int32).tolist()


def family(marker: str) -> list[psutil.Process]:
    """Every process that has the marker, a path or a part of one, in its command line or working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()) or marker in process.cwd():
                found.append(process)
        except psutil.Error:
            continue  # gone, or a zombie
    return found


def tritons(marker: str) -> list[psutil.Process]:
    """Without a child that Triton has forked and that is not yet a stub."""
    named = {p.pid: p for p in family(marker) if name_of(p) == "tritonserver"}
    return [p for p in named.values() if parent_of(p) not in named]


def stubs(marker: str) -> list[psutil.Process]:
    return [p for p in family(marker) if name_of(p).startswith("triton_python_b")]


def reapers(marker: str) -> list[psutil.Process]:
    return [p for p in family(marker) if any(a.endswith("reaper.py") for a in cmdline_of(p))]


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def parent_of(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def cmdline_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> float:
    """Wait for the condition; returns how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, f"not within {limit_s} s"
        time.sleep(0.01)
    return time.monotonic() - began


def assert_gone(folder: Path, limit_s: float = LIMIT_S) -> None:
    """Nothing is left of the Triton that ran in this folder: no process, no file, no shared memory."""

    def gone() -> bool:
        shared = list(Path("/dev/shm").glob(f"{folder.name}*"))
        return not (family(folder.name) or folder.exists() or shared)

    until(gone, limit_s)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
