"""Where the seconds of a start go: which process waits for which, and which imports cost what."""

import asyncio
import re
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmark.answer import PROMPT
from benchmark.engine import TAG
from benchmark.http_stream import Connection, request
from benchmark.service import Service, serve
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
    """BentoML's parent: its imports, the service's, the model, circus."""
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
    """One start of the packed model, up to its first token, and its stop."""
    began = time.time()
    with serve(home) as service:
        service.wait_ready()
        ready = time.time()
        asyncio.run(_ask(service))
        answered = time.time()
        groups = service.groups()
        worker = min(process.create_time() for process in groups["gateway"])
        triton = min(process.create_time() for process in groups["triton"])
        (took,) = READY.findall(service.log.read_text(errors="replace"))[:1]
        stopping = time.time()
        service.stop()
        stop = time.time() - stopping
    loaded = min(triton + float(took), ready)
    return Startup(worker - began, triton - worker, loaded - triton, ready - loaded, answered - began, stop)


async def _ask(service: Service) -> None:
    host, _, port = service.host.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    await connection.ask(request(service.host, "/generate", {"prompt": PROMPT, "max_tokens": 1}, "text/event-stream"))
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


STARTUP_HEAD = ("start", "BentoML parent s", "worker s", "Triton s", "ready s", "to first token s", "stop s")
IMPORT_HEAD = ("package", "its own files, ms")


def import_rows(values: list[tuple[str, float]]) -> list[tuple[str, ...]]:
    return [(name, f"{value:.0f}") for name, value in values]
