"""How long a service is away after Triton, a worker, or both were killed: from the signal to /readyz."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.service import READY_LIMIT_S, BenchError, Service, serve

# Whatever was well for this long begins its delays anew, so each fault counts as a first one.
FORGIVEN_S = 1.0
PAUSE_S = 1.5
POLL_S = 0.02
WORKERS = 1

Victims = Callable[[Service], list[psutil.Process]]


def _workers(service: Service) -> list[psutil.Process]:
    return service.groups()["gateway"]


FAULTS: dict[str, Victims] = {
    "Triton": Service.tritons,
    "the worker, and so its Triton": _workers,
    "both at once": lambda service: [*service.tritons(), *_workers(service)],
}


@dataclass(frozen=True)
class Recovery:
    """Seconds until the service was ready again, fault by fault."""

    fault: str
    seconds: list[float]


def recoveries(home: Path, count: int, say: Callable[[str], None]) -> list[Recovery]:
    """So many faults of each kind, on the packed model. Raises BenchError where the service does not come back."""
    found = []
    with serve(home, workers=WORKERS, restart_max_delay_s=FORGIVEN_S) as service:
        service.wait_ready()
        for fault, victims in FAULTS.items():
            seconds = []
            for number in range(count):
                time.sleep(PAUSE_S)
                seconds.append(_recover(service, victims(service)))
                say(f"{fault}, {number + 1} of {count}: {seconds[-1]:.2f} s")
            found.append(Recovery(fault, seconds))
    return found


def _recover(service: Service, victims: Sequence[psutil.Process]) -> float:
    before = {process.pid for process in (*service.tritons(), *victims)}
    began = time.monotonic()
    for process in victims:
        process.kill()
    while time.monotonic() < began + READY_LIMIT_S:
        with suppress(psutil.Error):
            there = [*service.tritons(), *_workers(service)]
            if len(there) == 1 + WORKERS and not before & {process.pid for process in there}:
                service.wait_ready()
                return time.monotonic() - began
        time.sleep(POLL_S)
    raise BenchError(f"the service did not come back within {READY_LIMIT_S} s")


def rows(values: Sequence[Recovery]) -> list[tuple[str, ...]]:
    return [
        (v.fault, str(len(v.seconds)), f"{statistics.median(v.seconds):.2f}", f"{max(v.seconds):.2f}") for v in values
    ]


HEAD = ("killed", "times", "ready again after s, p50", "worst")
