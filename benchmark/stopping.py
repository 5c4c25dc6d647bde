"""How long a service takes to stop once its answers are out, after traffic of all kinds."""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.answer import PROMPT
from benchmark.http_stream import Connection, request
from benchmark.service import BenchError, Service, serve

CLIENTS, TOKENS, PASSES = 16, 40, 3


@dataclass(frozen=True)
class Stop:
    """One stop of a service with nothing open."""

    took_s: float
    """From SIGTERM to the end of everything."""


def stops(home: Path, count: int, say: Callable[[str], None]) -> list[Stop]:
    """So many services with the packed model, each stopped once it has had traffic. Raises BenchError."""
    found = []
    for number in range(count):
        with serve(home) as service:
            service.wait_ready()
            try:
                asyncio.run(_traffic(service))
            except OSError as error:
                raise BenchError(f"an answer failed: {error}") from error
            began = time.monotonic()
            code = service.stop()
            took_s = time.monotonic() - began
            if code:
                raise BenchError(f"a stop ended with {code}")
            found.append(Stop(took_s))
        say(f"stop {number + 1} of {count}: {took_s:.2f} s")
    return found


async def _traffic(service: Service) -> None:
    """Clients of whom each second one leaves in the middle of its answer, some times."""
    host, _, port = service.host.rpartition(":")
    body: dict[str, object] = {"prompt": PROMPT, "max_tokens": TOKENS}
    message = request(service.host, "/generate", body, "text/event-stream")

    async def ask(leaves: bool) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
        answer = asyncio.ensure_future(connection.ask(message))
        while leaves and not connection.arrivals and not answer.done():
            await asyncio.sleep(0.001)
        try:
            if not leaves:
                await answer
        finally:
            connection.close()
        with suppress(ConnectionError):
            await answer

    for _ in range(PASSES):
        await asyncio.gather(*(ask(bool(number % 2)) for number in range(CLIENTS)))


HEAD = ("stops", "s, median", "worst")


def rows(values: list[Stop]) -> list[tuple[str, ...]]:
    took = [value.took_s for value in values]
    return [(str(len(values)), f"{statistics.median(took):.2f}", f"{max(took):.2f}")]
