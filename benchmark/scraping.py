"""Whether scrapes of /metrics delay streams: the same paced streams by turns with ten scrapes a second, and without."""

import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

from benchmark.answer import Asker
from benchmark.engine import Model
from benchmark.rounds import WARM_UP_TOKENS, Round, clients, one_round, requests
from benchmark.service import Service, serve

WORKERS = 8
STREAMS, RATE, TOKENS, STAGGER_S = 64, 20.0, 200, 2.0
EVERY_S = 0.1
"""Far more often than Prometheus asks: a scrape then meets one in fifty of the gaps, and a delay would show."""


@dataclass(frozen=True)
class Scraped:
    """All rounds, in turn without and with scrapes."""

    workers: int
    without: list[Round]
    beside: list[Round]
    scrapes_s: list[float]
    """How long each scrape took."""


def scraped(home: Path, model: Model, repeats: int, say: Callable[[str], None]) -> Scraped:
    """Raises BenchError for an answer that failed."""
    model.set_rate(RATE)
    found = Scraped(WORKERS, [], [], [])
    with serve(home, workers=WORKERS) as service, clients("sse", 2) as group:
        service.wait_ready()
        load = Asker(model, service, "").load("sse", STREAMS, TOKENS, STAGGER_S)
        # All workers are to have answered: each has metrics of its own.
        group.put_on(replace(load, requests=requests(load, WORKERS * WARM_UP_TOKENS), stagger_s=0))
        for repeat in range(repeats):
            found.without.append(one_round(service, group, load))
            with _scraping(service, found.scrapes_s):
                found.beside.append(one_round(service, group, load))
            gaps = [one.gap_ms[1] for one in (found.without[-1], found.beside[-1])]
            say(f"between, p99, {repeat + 1} of {repeats}: {gaps[0]:.1f} ms, with scrapes {gaps[1]:.1f}")
    return found


@contextmanager
def _scraping(service: Service, took: list[float]) -> Iterator[None]:
    over = Event()

    def scrape() -> None:
        while not over.wait(EVERY_S):
            began = time.monotonic()
            with urllib.request.urlopen(f"{service.url}/metrics", timeout=30) as response:
                response.read()
            took.append(time.monotonic() - began)

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


HEAD = (
    "workers", "scrapes", "between ms p50", "p99", "p99.9", "longest", "p99 of the worst round", "a scrape ms p50",
    "worst",
)  # fmt: skip


def rows(found: Scraped) -> list[tuple[str, ...]]:
    """Without and with; medians of the rounds."""
    table = []
    for name, rounds, took in (("none", found.without, []), ("ten a second", found.beside, found.scrapes_s)):
        gaps = [
            statistics.median(values)
            for values in zip(*(one.gap_ms + one.longest_gaps_ms for one in rounds), strict=True)
        ]
        worst = max(one.gap_ms[1] for one in rounds)
        each = [f"{1000 * value:.0f}" for value in (statistics.median(took), max(took))] if took else ["–", "–"]
        table.append((str(found.workers), name, *(f"{gap:.1f}" for gap in (*gaps, worst)), *each))
    return table
