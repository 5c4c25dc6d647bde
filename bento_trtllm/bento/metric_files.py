"""The files in $PROMETHEUS_MULTIPROC_DIR, on a disk that may be full.

prometheus_client (read in 0.26, mmap_dict.py) makes them as long as they may get, with holes, and maps them: the kernel
looks for room when a page is first written to, and kills the process (SIGBUS) where there is none. So room is reserved
first. While there is none a worker counts in memory, and what it counted is in its file when there is room again.

BentoML 1.4.40 reads all of them twice a scrape, the first time to sort what it then throws away
(bentoml/_internal/server/metrics/prometheus.py, generate_latest).
"""

import logging
import mmap
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from bentoml._internal.server.metrics.prometheus import PrometheusClient
from prometheus_client import generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

LOGGER = logging.getLogger("bento_trtllm")
FIRST_BYTES = 2**16
"""prometheus_client's own value."""
BESIDE_KEY = 32
"""Most bytes of an entry besides its key: its length, padding, and two doubles."""
HEAD = 8
"""The length of the header, which says how many bytes are used."""
RETRY_S = 5.0


class ReservedDict(MmapedDict):
    """One file, or the data that will be in it."""

    _f: IO[bytes] | None  # type: ignore[assignment]
    """None while there is no room."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path = Path(filename)
        self._retry_at = 0.0
        try:
            if not read_mode:
                with self._path.open("a+b") as file:
                    os.posix_fallocate(file.fileno(), 0, max(FIRST_BYTES, os.fstat(file.fileno()).st_size))
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except OSError as error:
            if read_mode:
                raise
            with suppress(OSError):  # a read-only filesystem raises even if there is no file
                self._path.unlink()  # BentoML reads all files that are there, and cannot read an empty one
            self._used, self._positions, self._capacity = HEAD, {}, FIRST_BYTES
            self._f, self._m = None, mmap.mmap(-1, FIRST_BYTES)
            self._m[:HEAD] = HEAD.to_bytes(HEAD, "little")
            self._tell(error)

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        if self._f is None and time.monotonic() >= self._retry_at:
            self._move_to_file()

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + BESIDE_KEY > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        capacity = 2 * self._capacity
        if self._f:
            try:
                os.posix_fallocate(self._f.fileno(), 0, capacity)
            except OSError as error:
                self._f.close()
                self._f = None
                self._tell(error)
        larger = mmap.mmap(self._f.fileno() if self._f else -1, capacity)
        if self._f is None:
            larger[: self._used] = self._m[: self._used]
        self._m, self._capacity = larger, capacity

    def _move_to_file(self) -> None:
        try:
            file = self._path.open("a+b")
        except OSError:
            self._retry_at = time.monotonic() + RETRY_S
            return
        try:
            os.posix_fallocate(file.fileno(), 0, self._capacity)
            mapped = mmap.mmap(file.fileno(), self._capacity)
        except OSError:
            new = os.fstat(file.fileno()).st_size == 0
            file.close()
            if new:
                self._path.unlink(missing_ok=True)
            self._retry_at = time.monotonic() + RETRY_S
            return
        mapped[HEAD : self._used] = self._m[HEAD : self._used]
        mapped[:HEAD] = self._m[:HEAD]  # last, for the sake of concurrent readers
        self._f, self._m = file, mapped
        LOGGER.info("There is room for %s again", self._path)

    def _tell(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        LOGGER.warning(
            "No room for %s (%s): this worker's metrics are missing from /metrics until there is",
            self._path,
            error.strerror,
        )


class Collected:
    """What the files of all workers hold, read once: a registry, as far as an exposition needs one."""

    def collect(self) -> Iterable[Metric]:
        """Families with their samples; a histogram's buckets come before its count and sum."""
        families = list(MultiProcessCollector(None).collect())  # type: ignore[no-untyped-call]
        for family in families:
            if family.type == "histogram":
                family.samples.sort(key=PrometheusClient._histogram_sample_sort_key)
        return families


def _expose(client: PrometheusClient) -> bytes:
    return generate_latest(Collected())


def reserve() -> None:
    """Have all metrics kept so that are made from now on, and read once a scrape."""
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
    PrometheusClient.generate_latest = _expose  # type: ignore[method-assign]
