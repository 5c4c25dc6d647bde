"""What a service keeps: its processes' memory, looked at again and again beside a light load of every kind."""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import httpx
import psutil

from soak.mixture import Asked, mixture
from tests.support.serving import SSE, Service, is_engine

AT_ONCE = 64
LIMIT_S = 90
JSON = {"content-type": "application/json"}
ERRORS, GREW, REPLACED = "SERVER ERRORS", "PROCESSES THAT GREW", "PROCESSES THAT WERE REPLACED"
ROLLUP = {"Rss:": "rss_mb", "Pss:": "pss_mb", "Anonymous:": "anonymous_mb"}
QUARTERS = 4
TOLERANCE, LEAST_MB = 0.03, 3.0
"""What the last quarter's mean of anonymous memory may be above the second's: this part of it, or so much."""


class TooFew(Exception):
    """A run has only begun."""


@dataclass(frozen=True)
class Weight:
    """One process at one moment; memory in MiB, by /proc/PID/smaps_rollup."""

    pid: int
    role: str
    rss_mb: float
    pss_mb: float
    anonymous_mb: float
    files: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """All of a service's processes, after so many seconds and requests."""

    seconds: float
    requests: int
    processes: tuple[Weight, ...]

    def line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def read(cls, line: str) -> "Sample":
        found = json.loads(line)
        return cls(found["seconds"], found["requests"], tuple(Weight(**each) for each in found["processes"]))


def role(process: psutil.Process) -> str:
    if is_engine(process):
        return "engine"
    if any("_bentoml_impl.worker.service" in argument for argument in process.cmdline()):
        return "worker"
    return process.name()


def weigh(processes: Iterable[psutil.Process]) -> tuple[Weight, ...]:
    """Those that have memory and have not ended meanwhile."""
    found = []
    for process in processes:
        try:
            memory = {}
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                if name in ROLLUP:
                    memory[ROLLUP[name]] = round(int(rest[0]) / 1024, 2)
            found.append(
                Weight(process.pid, role(process), files=process.num_fds(), threads=process.num_threads(), **memory)
            )
        except (psutil.Error, OSError, TypeError):
            continue
    return tuple(found)


@dataclass
class Watch:
    """One run: `rate` requests a second, whatever becomes of them; a sample every `period_s` seconds."""

    service: Service
    rate: float
    period_s: float
    output: Path
    seed: int = 0
    counts: Counter[str] = field(default_factory=lambda: Counter({ERRORS: 0}))
    samples: list[Sample] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        watching = asyncio.create_task(self._watch(began))
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(base_url=self.service.url, timeout=LIMIT_S, limits=limits) as http:
            await self._load(http, began + seconds)
        watching.cancel()
        self._look(began)

    async def _load(self, http: httpx.AsyncClient, until: float) -> None:
        following, pauses = mixture(self.seed), random.Random(self.seed)
        running: set[asyncio.Task[None]] = set()
        while time.monotonic() < until:
            await asyncio.sleep(pauses.expovariate(self.rate))
            if len(running) < AT_ONCE:
                task = asyncio.create_task(self._ask(http, following()))
                running.add(task)
                task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _ask(self, http: httpx.AsyncClient, asked: Asked) -> None:
        self.counts["requests"] += 1
        self.counts[f"of them {asked.kind}"] += 1
        headers = {**(JSON if asked.body else {}), **(SSE if asked.kind == "events" else {})}
        try:
            method = "POST" if asked.body else "GET"
            async with http.stream(method, asked.path, content=asked.body, headers=headers) as response:
                status = response.status_code
                async for _ in response.aiter_lines():
                    if asked.leaves and status == 200:
                        break
                    await asyncio.sleep(asked.pause_s)
        except httpx.TransportError:
            self.counts["broken off"] += 1
            return
        if status in (429, 503):
            self.counts["told to come again"] += 1
        elif not (status == 200 if asked.good else 400 <= status < 500):
            self.counts[ERRORS] += 1
            print(f"{asked.kind}: {status} for {asked.path} {asked.body!r}", flush=True)

    async def _watch(self, began: float) -> None:
        while True:
            await asyncio.to_thread(self._look, began)
            await asyncio.sleep(self.period_s)

    def _look(self, began: float) -> None:
        seconds = round(time.monotonic() - began, 1)
        sample = Sample(seconds, self.counts["requests"], weigh(self.service.processes()))
        self.samples.append(sample)
        with self.output.open("a") as file:
            file.write(sample.line())


def rows(samples: Sequence[Sample]) -> dict[str, object]:
    """What the table says of a run: each process that lived through half of it, how many of them grew, and how many
    have ended for another to take their place.

    Raises TooFew for less than a sample for each quarter.
    """
    if len(samples) < QUARTERS:
        raise TooFew(f"there are {len(samples)} samples, and a table takes {QUARTERS}: come again later")
    found: dict[str, object] = {"hours": f"{samples[-1].seconds / 3600:.1f}", "requests": f"{samples[-1].requests:,}"}
    lives: dict[int, list[Weight]] = {}
    for sample in samples:
        for weight in sample.processes:
            lives.setdefault(weight.pid, []).append(weight)
    grew = 0
    for life in lives.values():
        if len(life) < max(QUARTERS, len(samples) / 2):
            continue
        anonymous, name = quarters(life, lambda w: w.anonymous_mb), f"{life[0].role} {life[0].pid}"
        grew += anonymous[3] > anonymous[1] + max(TOLERANCE * anonymous[1], LEAST_MB)
        found[f"{name}, anonymous memory, mean of each quarter, MB"] = shown(anonymous)
        found[f"{name}, its share of all memory (PSS), MB"] = shown(quarters(life, lambda w: w.pss_mb))
        found[f"{name}, open files, at most"] = shown(quarters(life, lambda w: float(w.files), max))
        if len(life) < len(samples):
            found[f"{name}, samples of its life"] = f"{len(life)} of {len(samples)}"
    return found | {GREW: grew, REPLACED: replaced(samples)}


def replaced(samples: Sequence[Sample]) -> int:
    """How many processes there were of each role, beyond the most of one moment."""
    ever: dict[str, set[int]] = {}
    most: Counter[str] = Counter()
    for sample in samples:
        for weight in sample.processes:
            ever.setdefault(weight.role, set()).add(weight.pid)
        most |= Counter(weight.role for weight in sample.processes)
    return sum(len(pids) - most[name] for name, pids in ever.items())


def quarters(
    life: Sequence[Weight], of: Callable[[Weight], float], by: Callable[[list[float]], float] = fmean
) -> list[float]:
    """Of each quarter of a process's life one number."""
    cuts = [i * len(life) // QUARTERS for i in range(QUARTERS + 1)]
    return [by([of(weight) for weight in life[begin:end]]) for begin, end in itertools.pairwise(cuts)]


def shown(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:.0f}" for number in numbers)


def read(path: Path) -> list[Sample]:
    return [Sample.read(line) for line in path.read_text().splitlines()]
