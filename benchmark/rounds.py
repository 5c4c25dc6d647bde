"""Rounds of load: each path in turn, again and again, so that what disturbs one disturbs all."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace

from benchmark.load import HTTP_PATHS, Load, Result
from benchmark.measure import Meter, own_cpu_s
from benchmark.service import BenchError, Group, Service
from tests.support.launcher import ROOT

# A round has at least so many tokens, so that clock ticks (10 ms of CPU) and starts don't matter.
ROUND_TOKENS = 8_000
WARM_UP_TOKENS = 2_000


@dataclass
class Round:
    """One measured round on one path."""

    tok_s: float
    first_ms: tuple[float, float]
    """p50 and p99."""
    gap_ms: tuple[float, float]
    """p50 and p99 of the time between two arrivals of text in a stream."""
    longest_gaps_ms: tuple[float, float]
    """p99.9 and the longest of them."""
    cpu_us: dict[str, float]
    """CPU time a token, by group, and of the client."""
    peak_mb: dict[Group, float]
    foreign: float
    """CPU that processes which are no part of this used meanwhile, in cores."""
    chunk_tokens: float
    """Tokens an arrival: what was merged on the way."""


@dataclass
class Case:
    """All rounds of one path at one number of streams."""

    path: str
    streams: int
    tokens: int
    rate: float
    workers: int
    rounds: list[Round] = field(default_factory=list)

    def median(self, value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, self.rounds))

    def spread(self, value: Callable[[Round], float]) -> tuple[float, float]:
        values = [*map(value, self.rounds)]
        return min(values), max(values)


def shares(load: Load, count: int) -> list[Load]:
    """A load's parts for so many processes, fewer if it has fewer streams: they begin by turns, as in one process."""
    count = min(count, load.streams)
    gap_s = load.stagger_s / load.streams
    streams = [len(range(number, load.streams, count)) for number in range(count)]
    return [
        replace(load, streams=each, begin_s=number * gap_s, stagger_s=each * count * gap_s)
        for number, each in enumerate(streams)
    ]


class Clients:
    """Client processes that share a load between them."""

    def __init__(self, count: int) -> None:
        argv = [sys.executable, "-m", "benchmark.load"]
        self._processes = [
            subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
            for _ in range(count)
        ]

    def put_on(self, load: Load) -> Result:
        """Raises BenchError for any answer that failed."""
        used = list(zip(self._processes, shares(load, len(self._processes)), strict=False))
        for process, share in used:
            assert process.stdin
            process.stdin.write(json.dumps(asdict(share)) + "\n")
            process.stdin.flush()
        whole = Result(began=float("inf"))
        for process, _ in used:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise BenchError(f"a client of the path {load.path} died")
            part = Result(**json.loads(line))
            whole = Result(
                whole.tokens + part.tokens,
                whole.requests + part.requests,
                whole.cpu_s + part.cpu_s,
                min(whole.began, part.began),
                max(whole.ended, part.ended),
                whole.first + part.first,
                whole.gaps + part.gaps,
                whole.errors + part.errors,
            )
        if whole.errors:
            raise BenchError(f"{len(whole.errors)} answers on the path {load.path} failed: {whole.errors[0]}")
        return whole

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def clients(path: str, count: int) -> Iterator[Clients]:
    """`count` processes for HTTP, and one for Triton, whose cost is the measure."""
    group = Clients(count if path in HTTP_PATHS else 1)
    try:
        yield group
    finally:
        group.close()


@dataclass(frozen=True)
class Entrant:
    """A load, and what it is put on: a service, or None for one elsewhere."""

    service: Service | None
    load: Load
    workers: int = 1


def measure(
    entrants: Sequence[Entrant], repeats: int, *, rate: float = 0.0, say: Callable[[str], None] = lambda text: None
) -> list[Case]:
    """Each load once to warm up, then all in turn, `repeats` times."""
    cases = [
        Case(entrant.load.path, entrant.load.streams, entrant.load.tokens, rate, entrant.workers)
        for entrant in entrants
    ]
    with ExitStack() as stack:
        groups = [stack.enter_context(clients(entrant.load.path, max(1, entrant.workers))) for entrant in entrants]
        for entrant, group in zip(entrants, groups, strict=True):
            group.put_on(replace(entrant.load, requests=requests(entrant.load, WARM_UP_TOKENS), stagger_s=0))
        for repeat in range(repeats):
            for entrant, group, case in zip(entrants, groups, cases, strict=True):
                load = replace(entrant.load, requests=requests(entrant.load, ROUND_TOKENS))
                once = one_round(entrant.service, group, load)
                case.rounds.append(once)
                say(
                    f"{load.path}, {load.streams} streams, workers: {entrant.workers}, {repeat + 1} of {repeats}: "
                    f"{once.tok_s:,.0f} tok/s"
                )
    return cases


def requests(load: Load, tokens: int) -> int:
    """How often each stream asks in a round."""
    return max(load.requests, -(-tokens // (load.streams * load.expected_tokens)))


def one_round(service: Service | None, group: Clients, load: Load) -> Round:
    """One round, and what everything spent on it."""
    meter = Meter(service.groups() if service else {})
    own = own_cpu_s()
    result = group.put_on(load)
    spent = meter.read()
    known = sum(spent.cpu_s.values()) + result.cpu_s + own_cpu_s() - own
    micro = 1e6 / result.tokens
    return Round(
        result.tokens / (result.ended - result.began),
        _percentiles(result.first),
        _percentiles(result.gaps),
        _percentiles(result.gaps, 999, 1000),
        {"client": result.cpu_s * micro, **{name: value * micro for name, value in spent.cpu_s.items()}},
        spent.peak_mb,
        max(0.0, spent.machine_cpu_s - known) / spent.seconds,
        result.tokens / (len(result.first) + len(result.gaps)),
    )


def _percentiles(values: list[float], lower: int = 500, upper: int = 990) -> tuple[float, float]:
    """Two of them, in thousandths; p50 and p99 by default. In milliseconds."""
    if len(values) < 2:
        return (1000 * values[0],) * 2 if values else (0.0, 0.0)
    cuts = [*statistics.quantiles(values, n=1000, method="inclusive"), max(values)]
    return 1000 * cuts[lower - 1], 1000 * cuts[upper - 1]
