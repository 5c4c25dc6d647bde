"""Where the seconds of a start go: which process waits for which, and which imports cost what."""

import asyncio
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.answer import PROMPT
from benchmark.engine import TAG
from benchmark.http_stream import Connection, request
from benchmark.service import BenchError, Service, serve
from tests.support.launcher import ROOT, environment

IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")
READY = re.compile(r"Triton is ready after ([\d.]+) s")
# What a worker imports, in BentoML's order.
WORKER = """
import _bentoml_impl.worker.service, uvicorn, _bentoml_impl.loader, bentoml
bentoml.server_context.worker_index = 1
import service
service.TRTLLM.to_asgi()
service.front()
"""
SHOWN = 14


@dataclass(frozen=True)
class Startup:
    """Seconds of each stretch of one start, in order; they add up to `first_token`. And of its stop."""

    parent: float
    """scripts/serve, and BentoML's parent: its imports, the service's, the model, circus."""
    worker: float
    """The worker's imports and the service instance, until Triton's process exists."""
    triton: float
    """Until Triton and all of its models are ready."""
    answer: float
    """Until /readyz says so."""
    first_token: float
    """From the command to the first token of the first request."""
    stop: float
    """From SIGTERM to the end of everything, with no answer open."""


def start(home: Path) -> Startup:
    """One start of the packed model by scripts/serve, up to its first token, and its stop."""
    subprocess.run(["scripts/venv", "cpu"], cwd=ROOT, check=True)  # what it would install the first time
    began = _now()
    with serve(home, script="scripts/serve") as service:
        service.wait_ready()
        ready = _now()
        asyncio.run(_ask(service))
        answered = _now()
        worker, triton = (_begin(service.groups()[group]) for group in ("gateway", "triton"))
        (took,) = READY.findall(service.log.read_text(errors="replace"))[:1]
        stopping = _now()
        service.stop()
        stop = _now() - stopping
    loaded = min(triton + float(took), ready)
    return Startup(worker - began, triton - worker, loaded - triton, ready - loaded, answered - began, stop)


def _now() -> float:
    """Seconds since the machine has been started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _begin(processes: Sequence[psutil.Process]) -> float:
    """When the first of them was started, in the same seconds; as a time of day psutil is up to a second off, since
    /proc/stat has that of the machine's start in whole ones."""
    return min(process.create_time() for process in processes) - psutil.boot_time()


async def _ask(service: Service) -> None:
    host, _, port = service.host.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    body: dict[str, object] = {"prompt": PROMPT, "max_tokens": 1}
    try:
        await connection.ask(request(service.host, "/generate", body, "text/event-stream"))
    except OSError as error:
        raise BenchError(f"the first answer failed: {error}") from error
    finally:
        connection.close()


def imports(home: Path) -> list[tuple[str, float]]:
    """Milliseconds by top-level package of what a worker imports, each package's own files only, most first."""
    env = {**environment(home), "TRTLLM_MODEL": TAG}
    argv = [sys.executable, "-X", "importtime", "-c", WORKER]
    report = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=120).stderr
    own: dict[str, float] = defaultdict(float)
    for micro, _, _, name in IMPORT.findall(report):
        top = name.split(".")[0]
        own["the standard library" if top in sys.stdlib_module_names else top] += int(micro) / 1000
    ranked = sorted(own.items(), key=lambda item: -item[1])
    return [*ranked[:SHOWN], ("all others", sum(value for _, value in ranked[SHOWN:]))]


def startup_rows(values: list[Startup]) -> list[tuple[str, ...]]:
    return [
        (str(i), *(f"{v:.2f}" for v in (s.parent, s.worker, s.triton, s.answer, s.first_token, s.stop)))
        for i, s in enumerate(values, 1)
    ]


STARTUP_HEAD = (
    "start",
    "scripts/serve and BentoML's parent s",
    "worker s",
    "Triton s",
    "ready s",
    "to first token s",
    "stop s",
)
IMPORT_HEAD = ("package", "its own files, ms")


def import_rows(values: list[tuple[str, float]]) -> list[tuple[str, ...]]:
    return [(name, f"{value:.0f}") for name, value in values]
