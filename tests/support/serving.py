"""A real `bentoml serve` for tests: with a model store of its own, on this machine or on a stand-in for NVIDIA's."""

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import psutil

from bento_trtllm.manifest import Manifest
from tests.support import launcher
from tests.support.launcher import DEMO, ROOT, Launched, free_port, launch
from tests.support.standin.place import Standin

__all__ = [
    "DEMO",
    "MACHINES",
    "ROOT",
    "SSE",
    "Service",
    "before_each_step",
    "environment",
    "free_port",
    "pack",
    "pack_slow",
    "serve",
]

READY_LIMIT_S = 120
STEP = "                self._pipeline.step()\n"
SSE = {"accept": "text/event-stream"}
MACHINES: dict[Path, Standin] = {}
"""Homes of TensorRT engines, and the stand-in for NVIDIA's container on which their models are packed and served."""


@dataclass
class Service(Launched):
    """A running service, and what its engine is doing."""

    _metrics: http.client.HTTPConnection | None = None

    def active(self) -> int:
        """Requests in the engine of the first Triton, by the engine's own count. It takes 0.1 ms, so poll it."""
        if self._metrics is None:
            self._metrics = http.client.HTTPConnection("127.0.0.1", self.triton_port("metrics"), timeout=60)
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
        (stub,) = (p for p in self.processes() if is_engine(p))
        return stub

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        super().wait_ready(limit_s)


def is_engine(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("triton_python") and any("tensorrt_llm" in arg for arg in process.cmdline())
    except psutil.Error:  # it has ended since
        return False


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a command that uses the model store at `home`, on its machine."""
    machine = MACHINES[home].environment if home in MACHINES else {}
    # No test is to wait two minutes until a Triton that stands still while it loads is started anew.
    return launcher.environment(home, **{"TRTLLM_LOAD_STALL_LIMIT_S": "15", **machine, **extra})


@contextmanager
def serve(
    home: Path,
    log: Path,
    *options: str,
    target: str = "service:TRTLLM",
    cwd: Path = ROOT,
    python: str | None = None,
    **env: str,
) -> Iterator[Service]:
    """Serve until the end of the block: the demo model, unless another is named.

    As a process of its own, with all its imports, where a Python is named or a TEST_MARKER, by which to find what is
    left of it.
    """
    if python is None and "TEST_MARKER" in env:
        python = sys.executable
    if target == "service:TRTLLM" and not any(option.startswith(("model=", "models=")) for option in options):
        options = (*options, "--arg", "model=demo-llama:test")
    variables = environment(home, **env)
    with launch(Service, log, variables, *options, target=target, cwd=cwd, python=python) as service:
        try:
            yield service
        finally:
            hurry(service)


def hurry(service: Service) -> None:
    """Where a test has not ended its service itself, nobody wants to see how it ends: Triton takes 2 s for that."""
    if service.process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # one that has ended just now
            service.process.terminate()
            for triton in service.tritons():
                triton.kill()


def pack(home: Path, tag: str = "demo-llama:test", checkpoint: Path = DEMO, *options: str) -> str:
    """Pack a checkpoint with the command that users have; returns its tag."""
    if home in MACHINES:
        return MACHINES[home].pack(home, tag, checkpoint, *options)
    launcher.pack(home, tag, checkpoint, *options)
    return tag


def pack_slow(home: Path, tag: str, checkpoint: Path, step_s: float) -> str:
    """The same, of a model each of whose steps takes so much longer, without computing; returns its tag."""
    pack(home, tag, checkpoint)
    if home in MACHINES:
        MACHINES[home].pause(tag, step_s)
    else:
        before_each_step(home, tag, f"time.sleep({step_s})")
    return tag


def before_each_step(home: Path, tag: str, code: str) -> None:
    """Have a model packed for OpenVINO run a line of Python, or several, before each step of its engine."""
    packed = home / "models" / Path(*tag.split(":"))
    batcher = packed / "repository/tensorrt_llm/1/batcher.py"
    text = batcher.read_text()
    assert text.count(STEP) == 1
    batcher.write_text(text.replace(STEP, indent(code, " " * (len(STEP) - len(STEP.lstrip()))) + "\n" + STEP))
    Manifest.read(packed).write(packed)
