"""The one launcher of a real `bentoml serve`, for tests, benchmark and soak: on a free port, ended by its pid.

What it starts ends with it, even when it is killed: the kernel then kills `bentoml serve`, and with that the rest goes,
as tests/service/test_lifecycle.py shows.
"""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from tests.support import warm
from tests.support.packing import pack_model

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo-llama"
STOP_LIMIT_S = 60
LOGS: list[Path] = []
"""Of all services that this process has launched."""


class NotReadyError(Exception):
    """The service ended, or did not become ready in time: what it wrote is in the message."""


@dataclass
class Launched:
    """A running service, and the processes below it."""

    url: str
    process: psutil.Popen | warm.ForkedService
    log: Path

    def processes(self) -> list[psutil.Process]:
        """The service's own, and all below it."""
        return [self.process, *self.process.children(recursive=True)]

    def tritons(self) -> list[psutil.Process]:
        """The tritonservers that this service started, without what one has forked and is not a stub yet."""
        found: dict[int, int] = {}
        processes = {process.pid: process for process in self.processes()}
        for pid, process in processes.items():
            with suppress(psutil.Error):  # gone since
                if process.name() == "tritonserver":
                    found[pid] = process.ppid()
        return [processes[pid] for pid, parent in found.items() if parent not in found]

    def grpc_address(self) -> str:
        """Where the service's Triton takes gRPC."""
        return f"127.0.0.1:{self.triton_port('grpc')}"

    def triton_port(self, kind: str) -> int:
        """A port of the service's one Triton, by its option: --KIND-port=."""
        (triton,) = self.tritons()
        (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith(f"--{kind}-port="))
        return int(port)

    def wait_ready(self, limit_s: float) -> None:
        """Raises NotReadyError."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
                return
            time.sleep(0.05)
        code = self.process.poll()
        why = f"not ready after {limit_s} s" if code is None else f"ended with {code}"
        raise NotReadyError(f"{why}:\n{self.log.read_text(errors='replace')}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            with suppress(psutil.NoSuchProcess):  # it has ended just now
                self.process.send_signal(number)
        return int(self.process.wait(STOP_LIMIT_S))


S = TypeVar("S", bound=Launched)


def bound(argv: Sequence[str]) -> list[str]:
    """The command, which the kernel kills when the thread that started it ends: setpriv(1) of util-linux.

    Not a preexec_fn: Python would fork, beside the threads of gRPC.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_GIVEN: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on now, and that was not given before: who got it may not listen yet.

    It is below those that the kernel gives to connections, any of which could have it by then.
    """
    ports = range(10_000, int(EPHEMERAL.read_text().split()[0]))
    for _ in range(1000):
        port = random.choice(ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port
    raise OSError(f"a thousand ports from {ports.start} to {ports.stop - 1} are all taken")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a command that uses the model store at `home`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **extra}


@contextmanager
def launch(
    kind: type[S],
    log: Path,
    env: Mapping[str, str],
    *options: str,
    target: str = "service:TRTLLM",
    cwd: Path = ROOT,
    python: str | None = sys.executable,
    script: str = "",
) -> Iterator[S]:
    """Serve until the end of the block; then nothing that was started here is left running.

    Without a Python, `bentoml serve` is a fork that has the imports already (warm.py); its workers are as ever. A
    script, such as scripts/serve, is run in its place.
    """
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), *options)
    arguments = ["serve", target, *options]
    process: psutil.Popen | warm.ForkedService
    LOGS.append(log)
    if python is None:
        process = warm.start("bentoml", arguments, env, cwd, log)
    else:
        argv = bound([script, *options] if script else [python, "-m", "bentoml", *arguments])
        with log.open("wb") as output:
            process = psutil.Popen(
                argv, cwd=cwd, env=dict(env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    service = kind(f"http://127.0.0.1:{port}", process, log)
    try:
        yield service
    finally:
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = service.processes()
        try:
            service.stop()
        finally:
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.kill()


def pack(home: Path, tag: str, checkpoint: Path = DEMO, *options: str) -> None:
    """Pack a checkpoint for OpenVINO with the command that users have, to be computed exactly."""
    argv = ("openvino", "--checkpoint", str(checkpoint), "--tag", tag, "--precision", "f32", *options)
    pack_model(*argv, environment=environment(home)).check()
