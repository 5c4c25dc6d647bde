"""A real `bentoml serve` under test, and the processes it consists of."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil

from benchmark.engine import ROOT, TAG, environment

READY_LIMIT_S = 120
STOP_LIMIT_S = 40

Group = Literal["gateway", "triton", "stubs", "other"]


class BenchError(Exception):
    """The benchmark cannot go on; one sentence says why."""


class Service:
    """A running service: `url` is None only for Triton alone."""

    def __init__(self, url: str, process: psutil.Popen, log: Path) -> None:
        self.url = url
        self.log = log
        self._process = process

    @property
    def host(self) -> str:
        """Where HTTP is, as host:port."""
        return self.url.removeprefix("http://")

    def groups(self) -> dict[Group, list[psutil.Process]]:
        """The processes by what they do: `other` are BentoML's parent and the like, which should cost nothing."""
        found: dict[Group, list[psutil.Process]] = {"gateway": [], "triton": [], "stubs": [], "other": []}
        for process in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found[_group(process)].append(process)
        return found

    def triton_address(self) -> str:
        """Where the service's Triton takes gRPC."""
        (triton,) = self.groups()["triton"]
        (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--grpc-port="))
        return f"127.0.0.1:{port}"

    def wait_ready(self) -> None:
        """Raises BenchError, with what the service wrote, if it is not ready in time."""
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
                return
            time.sleep(0.05)
        raise BenchError(f"the service did not become ready:\n{self.log.read_text(errors='replace')[-4000:]}")


def _group(process: psutil.Process) -> Group:
    name = process.name()
    if name == "tritonserver":
        return "triton"
    if name.startswith("triton_python_b"):
        return "stubs"
    return "gateway" if "_bentoml_impl.worker.service" in process.cmdline() else "other"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(home: Path, *, workers: int = 1, **settings: object) -> Iterator[Service]:
    """Serve the packed model TAG until the end of the block; then nothing that was started is left."""
    port = free_port()
    argv = [sys.executable, "-m", "bentoml", "serve", "service:TRTLLM", "--host", "127.0.0.1", "--port", str(port)]
    for name, value in {"model": TAG, "workers": workers, **settings}.items():
        argv += ["--arg", f"{name}={value}"]
    log = home / f"serve-{port}.log"
    with log.open("wb") as output:
        process = psutil.Popen(
            argv, cwd=ROOT, env=environment(home), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        yield service
    finally:
        _stop(process)


def _stop(process: psutil.Popen) -> None:
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except psutil.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        for each in family:
            with contextlib.suppress(psutil.Error):
                if each.is_running():
                    each.kill()
