"""What the processes of a service spend: CPU time and peak memory by group, and what the rest of the machine did."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.service import Group

RESET_PEAK = "5"
MB = 1_000_000


@dataclass(frozen=True)
class Spent:
    """Between two moments. CPU times are in seconds, memory is the resident peak in between, in megabytes."""

    seconds: float
    cpu_s: dict[Group, float]
    peak_mb: dict[Group, float]
    machine_cpu_s: float
    """Of all processes of the machine."""


class Meter:
    """Made at the first moment; `read` at the second."""

    def __init__(self, groups: dict[Group, list[psutil.Process]]) -> None:
        self._groups = groups
        for process in _all(groups):
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
        self._began = time.monotonic()
        self._machine = _machine_cpu_s()
        self._cpu = {group: _cpu_s(processes) for group, processes in groups.items()}

    def read(self) -> Spent:
        cpu = {group: _cpu_s(processes) - self._cpu[group] for group, processes in self._groups.items()}
        machine = _machine_cpu_s() - self._machine
        seconds = time.monotonic() - self._began
        return Spent(seconds, cpu, {g: sum(map(_peak_mb, p)) for g, p in self._groups.items()}, machine)


def own_cpu_s() -> float:
    """Of this very process, which only waits while others are measured."""
    return time.process_time()


def _all(groups: dict[Group, list[psutil.Process]]) -> Iterable[psutil.Process]:
    return (process for processes in groups.values() for process in processes)


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _peak_mb(process: psutil.Process) -> float:
    """Raises nothing: a process that is gone has none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    return 0.0


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
