"""More clients than there is room for: what is answered in time, how the probes fare, and whether one client waits for
all others."""

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.answer import PROMPT
from benchmark.crowd import Came, Crowd
from benchmark.engine import Model
from benchmark.service import BenchError, Service, serve
from tests.support.launcher import ROOT

CROWDS = (100, 2000)
ADDRESSES = 8
SECONDS, WARM_S, REST_S = 30.0, 10.0, 3.0
TOKENS = (50, 150)
PROBE_S = 0.05
# One beside many: paced answers, so that only the queue is measured, and not the cores.
MANY, SLOTS, RATE, SHORT = 500, 64, 20.0, (20, 60)


@dataclass(frozen=True)
class Overload:
    """One crowd, in one round. Times are in seconds."""

    clients: int
    workers: int
    tok_s: float
    answers: int
    refused: int
    surge: list[float]
    """/readyz in the first WARM_S, within whose first second all clients come."""
    probes: list[float]
    """And in the rest, in which answers are counted."""


@dataclass(frozen=True)
class Beside:
    """How long one client's answers took alone, and beside MANY of another address. Times are in seconds."""

    workers: int
    alone: list[float]
    beside: list[float]

    @property
    def ratio(self) -> float:
        """Of the means."""
        return statistics.mean(self.beside) / statistics.mean(self.alone)


def overloads(home: Path, model: Model, workers: int, repeats: int, say: Callable[[str], None]) -> list[Overload]:
    """Each crowd in turn on one service, as fast as its engine goes; the first is there twice, to warm up."""
    model.set_rate(0)
    found = []
    with serve(home, workers=workers) as service:
        service.wait_ready()
        _came(service, CROWDS[0], REST_S, TOKENS).close()
        for repeat in range(repeats):
            for clients in CROWDS:
                time.sleep(REST_S)
                crowd = _came(service, clients, SECONDS, TOKENS, warm_s=WARM_S)
                surge, probes = (list(_probes(service, seconds)) for seconds in (WARM_S, SECONDS - WARM_S))
                came = crowd.read()
                one = Overload(
                    clients, workers, came.tokens / (SECONDS - WARM_S), len(came.answers), came.refused, surge, probes
                )
                found.append(one)
                say(f"{clients} clients, {repeat + 1} of {repeats}: {one.tok_s:,.0f} tok/s, {one.refused} refused")
    return found


def besides(home: Path, model: Model, workers: int, say: Callable[[str], None]) -> Beside:
    """One client alone, then beside many."""
    model.set_rate(RATE)
    with serve(home, workers=workers, max_running_requests=SLOTS, max_waiting_requests=MANY) as service:
        service.wait_ready()
        # The same questions both times.
        alone = _came(service, 1, SECONDS, SHORT, first_address=100).read()
        many = _came(service, MANY, 2 * SECONDS, SHORT)
        time.sleep(2 * SHORT[1] / RATE)  # until their answers end at different times
        beside = _came(service, 1, SECONDS, SHORT, first_address=100).read()
        many.read()
    count = min(len(alone.answers), len(beside.answers))
    if not count:
        raise BenchError(f"one client beside {MANY} had no answer within {SECONDS:g} s")
    one = Beside(workers, alone.answers[:count], beside.answers[:count])
    say(f"one beside {MANY}, {workers} workers: {one.ratio:.2f} times as long as alone")
    return one


class _Process:
    """A crowd that is asking."""

    def __init__(self, crowd: Crowd) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.crowd"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(crowd)) + "\n")
        self._process.stdin.flush()

    def read(self) -> Came:
        """What came of it. Raises BenchError for an answer that was not what it had to be."""
        out, _ = self._process.communicate()
        if self._process.returncode:
            raise BenchError("a crowd of clients died")
        came = Came(**json.loads(out))
        if came.errors:
            raise BenchError(f"{len(came.errors)} answers failed: {came.errors[0]}")
        return came

    def close(self) -> None:
        """Let it end."""
        self.read()


def _came(
    service: Service, clients: int, seconds: float, tokens: tuple[int, int], first_address: int = 2, warm_s: float = 0.0
) -> _Process:
    addresses = min(ADDRESSES, clients)
    return _Process(Crowd(service.host, clients, addresses, first_address, seconds, warm_s, PROMPT, *tokens))


def _probes(service: Service, seconds: float) -> Iterator[float]:
    """How long /readyz takes, again and again, each on a connection of its own as Kubernetes asks."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        with _probe(service.host) as response:
            if response.status != 200:
                raise BenchError(f"/readyz answered {response.status}: {response.read()!r}")
        yield time.monotonic() - began
        time.sleep(PROBE_S)


@contextmanager
def _probe(host: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", "/readyz")
        yield connection.getresponse()
    finally:
        connection.close()


HEAD = (
    "workers", "clients", "tok/s", "of that of the fewest", "answers", "refused", "/readyz ms p50", "p99",
    "worst as they come",
)  # fmt: skip


def rows(values: Sequence[Overload]) -> list[tuple[str, ...]]:
    """The rounds of each crowd together."""
    found: list[tuple[str, ...]] = []
    base = 0.0
    for clients in CROWDS:
        rounds = [value for value in values if value.clients == clients]
        tok_s = statistics.mean(value.tok_s for value in rounds)
        base = base or tok_s or 1.0
        probes = [1000 * probe for value in rounds for probe in value.probes]
        cuts = statistics.quantiles(probes, n=100, method="inclusive")
        answers, refused = (sum(getattr(value, name) for value in rounds) for name in ("answers", "refused"))
        found.append(
            (
                *(str(rounds[0].workers), str(clients), f"{tok_s:,.0f}", f"{tok_s / base:.2f}"),
                *(str(answers), str(refused), f"{cuts[49]:.1f}", f"{cuts[98]:.1f}"),
                f"{1000 * max(probe for value in rounds for probe in value.surge):,.0f}",
            )
        )
    return found


BESIDE_HEAD = ("workers", f"one beside {MANY}: s alone, mean", "worst", "beside, mean", "worst", "times as long")


def beside_rows(values: Sequence[Beside]) -> list[tuple[str, ...]]:
    return [
        (
            *(str(v.workers), f"{statistics.mean(v.alone):.2f}", f"{max(v.alone):.2f}"),
            *(f"{statistics.mean(v.beside):.2f}", f"{max(v.beside):.2f}", f"{v.ratio:.2f}"),
        )
        for v in values
    ]
