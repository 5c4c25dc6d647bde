"""A real `bentoml serve` for tests: on a free port, with a model store of its own, ended by its pid."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.support.standin.place import Standin
from tests.support.tiny import name_of

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo-llama"
READY_LIMIT_S = 60
STOP_LIMIT_S = 60
SSE = {"accept": "text/event-stream"}
MACHINES: dict[Path, Standin] = {}
"""Homes of TensorRT engines, and the stand-in for NVIDIA's container on which their models are packed and served."""


@dataclass
class Service:
    """A running service, and the processes below it."""

    url: str
    process: psutil.Popen
    log: Path
    _metrics: http.client.HTTPConnection | None = None

    def tritons(self) -> list[psutil.Process]:
        """The tritonservers that this service started."""
        return [p for p in self.process.children(recursive=True) if name_of(p) == "tritonserver"]

    def grpc_address(self) -> str:
        """Where the service's Triton takes gRPC."""
        (triton,) = self.tritons()
        (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--grpc-port="))
        return f"127.0.0.1:{port}"

    def active(self) -> int:
        """Requests in the engine of the first Triton, by the engine's own count. It takes 0.1 ms, so poll it."""
        if self._metrics is None:
            (triton,) = self.tritons()
            (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--metrics-port="))
            self._metrics = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        try:
            self._metrics.request("GET", "/metrics")
            text = self._metrics.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            self._metrics = None  # the next Triton has another port
            raise
        for line in text.splitlines():
            if line.startswith("nv_trt_llm_request_metrics{") and 'request_type="active"' in line:
                return int(float(line.rpartition(" ")[2]))
        return 0  # not set yet

    def engine(self) -> psutil.Process:
        """The process in which the engine computes: the Python stub of its Triton model."""
        (stub,) = (p for p in self.process.children(recursive=True) if is_engine(p))
        return stub

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after {limit_s} s:\n{self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return int(self.process.wait(STOP_LIMIT_S))


def is_engine(process: psutil.Process) -> bool:
    return process.name().startswith("triton_python") and any("tensorrt_llm" in arg for arg in process.cmdline())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a command that uses the model store at `home`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    machine = MACHINES[home].environment if home in MACHINES else {}
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    return {**os.environ, "PATH": path, **own, **machine, **extra}


@contextmanager
def serve(
    home: Path,
    log: Path,
    *options: str,
    target: str = "service:TRTLLM",
    cwd: Path = ROOT,
    python: str = sys.executable,
    **env: str,
) -> Iterator[Service]:
    """Serve until the end of the block; then nothing that was started here is left running."""
    port = free_port()
    if target == "service:TRTLLM" and not any(option.startswith("model=") for option in options):
        options = (*options, "--arg", "model=demo-llama:test")
    argv = [python, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port), *options]
    with log.open("wb") as output:
        process = psutil.Popen(
            argv, cwd=cwd, env=environment(home, **env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        yield service
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        try:
            service.stop()
        finally:
            for each in family:
                if each.is_running():
                    each.kill()


def pack(home: Path, tag: str = "demo-llama:test", checkpoint: Path = DEMO, *options: str) -> str:
    """Pack a checkpoint with the command that users have; returns its tag."""
    if home in MACHINES:
        return MACHINES[home].pack(home, tag, checkpoint, *options)
    argv = [sys.executable, "pack_model.py", "--engine", "openvino", "--checkpoint", str(checkpoint), "--tag", tag]
    subprocess.run([*argv, *options], cwd=ROOT, env=environment(home), check=True, capture_output=True, timeout=120)
    return tag
