"""What stays flat as work grows: the cost of streams that wait, and of a token in ever longer answers."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.answer import PROMPT, Asker
from benchmark.engine import Model
from benchmark.http_stream import Connection, request
from benchmark.measure import Meter
from benchmark.rounds import Clients
from benchmark.service import BenchError, Service, serve
from tests.support.launcher import ROOT

# A token now and the next after the measurement: the streams are open, and nothing comes.
IDLE_RATE = 0.01
IDLE_S = 5.0
OPENING_LIMIT_S = 60


@dataclass(frozen=True)
class Idle:
    """So many open streams in which nothing comes. CPU is in thousandths of a core, memory in megabytes."""

    streams: int
    gateway_millicores: float
    triton_millicores: float
    gateway_mb: float
    triton_mb: float


@dataclass(frozen=True)
class Length:
    """Answers of so many tokens, one at a time."""

    path: str
    tokens: int
    client_us: float
    gateway_us: float | None
    triton_us: float
    memory_mb: float
    """The peak of whatever passes the tokens on: the gateway, or the process in its place."""


def idle(home: Path, model: Model, counts: Sequence[int]) -> list[Idle]:
    """Each count on a service of its own, so that memory is not what the one before left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * max(counts)), hard), hard))
    model.set_rate(IDLE_RATE)
    results = []
    for count in counts:
        with serve(home, max_running_requests=2 * count) as service:
            service.wait_ready()
            results.append(asyncio.run(_hold(service, count)))
    return results


async def _hold(service: Service, count: int) -> Idle:
    host, _, port = service.host.rpartition(":")
    message = request(service.host, "/generate", {"prompt": PROMPT, "max_tokens": 1000}, "text/event-stream")
    loop = asyncio.get_running_loop()
    streams: list[tuple[Connection, asyncio.Task[float]]] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, host, int(port))
            streams.append((connection, loop.create_task(connection.ask(message))))
        deadline = loop.time() + OPENING_LIMIT_S
        while not all(connection.arrivals for connection, _ in streams):
            if loop.time() > deadline or any(task.done() for _, task in streams):
                raise BenchError(f"{count} streams could not be opened")
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        meter = Meter(service.groups())
        await asyncio.sleep(IDLE_S)
        spent = meter.read()
    finally:
        for connection, task in streams:
            task.cancel()
            connection.close()
    cpu, memory = spent.cpu_s, spent.peak_mb
    return Idle(
        count,
        1000 * cpu["gateway"] / spent.seconds,
        1000 * (cpu["triton"] + cpu["stubs"]) / spent.seconds,
        memory["gateway"],
        memory["triton"] + memory["stubs"],
    )


def lengths(service: Service, asker: Asker, counts: Sequence[int]) -> list[Length]:
    """The bare loop, and the gateway: over /v1 where there is one, for `generate` ends after 1024 tokens; and always
    its core alone, from Triton's messages to text, in a process of its own."""
    asker.model.set_rate(0)
    results = []
    for path in ("bare", "chat") if asker.chat_model else ("bare",):
        for count in counts:
            clients = Clients(1)
            meter = Meter(service.groups())
            load = asker.load(path, 1, count)
            result = clients.put_on(load)
            spent = meter.read()
            clients.close()
            micro = 1e6 / result.tokens
            gateway = spent.cpu_s["gateway"] * micro if path == "chat" else None
            triton = (spent.cpu_s["triton"] + spent.cpu_s["stubs"]) * micro
            memory = spent.peak_mb["gateway"] if path == "chat" else 0.0
            results.append(Length(path, count, result.cpu_s * micro, gateway, triton, memory))
    for count in counts:
        meter = Meter(service.groups())
        argv = [
            sys.executable,
            "-m",
            "benchmark.core",
            service.grpc_address(),
            str(asker.model.directory),
            str(count),
        ]
        out = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout
        core, spent = json.loads(out), meter.read()
        triton = (spent.cpu_s["triton"] + spent.cpu_s["stubs"]) * 1e6 / count
        results.append(Length("core", count, 0.0, core["cpu_us"], triton, core["peak_mb"]))
    return results


def as_json(values: Sequence[Idle | Length]) -> list[dict[str, object]]:
    return [asdict(value) for value in values]


def idle_rows(values: Sequence[Idle]) -> list[tuple[str, ...]]:
    return [
        (
            f"{v.streams:,}",
            f"{v.gateway_millicores:.0f}",
            f"{v.triton_millicores:.0f}",
            f"{v.gateway_mb:.0f}",
            f"{v.triton_mb:.0f}",
        )
        for v in values
    ]


IDLE_HEAD = ("open streams, nothing coming", "gateway mcores", "Triton mcores", "gateway MB", "Triton MB")

LENGTH_HEAD = ("path", "tokens an answer", "client µs a token", "gateway µs", "Triton and stubs µs", "MB")
LENGTH_NAMES = {
    "bare": "bare tritonclient, tensorrt_llm",
    "chat": "/v1/chat/completions",
    "core": "the gateway's core alone, no HTTP",
}


def length_rows(values: Sequence[Length]) -> list[tuple[str, ...]]:
    return [
        (
            LENGTH_NAMES[v.path],
            f"{v.tokens:,}",
            f"{v.client_us:.0f}" if v.client_us else "–",
            "–" if v.gateway_us is None else f"{v.gateway_us:.0f}",
            f"{v.triton_us:.0f}",
            f"{v.memory_mb:.0f}" if v.memory_mb else "–",
        )
        for v in values
    ]
