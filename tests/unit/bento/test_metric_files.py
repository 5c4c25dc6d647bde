"""Metrics of a worker whose disk is full: here a limit on the size of files, which is refused in the same way."""

import subprocess
import sys
from pathlib import Path

COUNT = """
import resource, signal, sys
from pathlib import Path
from bento_trtllm.bento import metric_files
metric_files.reserve()
metric_files.RETRY_S = 0
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def collected():
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    values = {s.labels["n"]: s.value for m in registry.collect() for s in m.samples if s.name == "c_total"}
    return values

counter = None
def count(numbers):
    for number in numbers:
        counter.labels(str(number)).inc(number)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
"""


def run(folder: Path, program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT + program],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PATH": ""},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_was_counted_without_room_is_there_later(tmp_path: Path) -> None:
    program = """
limit(1000)
counter = Counter("c", "text", ("n",), registry=None)
count(range(1500))
print(collected(), len(list(Path(sys.argv[0] or ".").glob("*.db"))))
limit(resource.RLIM_INFINITY)
count([1])
expected = {str(n): float(n) for n in range(1500)} | {"1": 2.0}
print(collected() == expected)
"""
    assert run(tmp_path, program) == ["{} 0", "True"]


def test_a_file_that_cannot_grow_stays_as_it_was(tmp_path: Path) -> None:
    program = """
counter = Counter("c", "text", ("n",), registry=None)
count(range(10))
limit(70000)
count(range(1500))
some = collected()
print(len(some) < 1500, all(some[str(n)] == 2 * n for n in range(10)))
limit(resource.RLIM_INFINITY)
count([1])
print(collected() == {str(n): float(n * (1 + (n < 10))) for n in range(1500)} | {"1": 3.0})
"""
    assert run(tmp_path, program) == ["True True", "True"]


def test_room_is_reserved(tmp_path: Path) -> None:
    """No holes: with one, the kernel has to look for room when it is written to."""
    program = """
counter = Counter("c", "text", ("n",), registry=None)
count(range(1500))
import os
(file,) = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir()
print(file.stat().st_size > 2**16, file.stat().st_blocks * 512 >= file.stat().st_size)
"""
    assert run(tmp_path, program) == ["True True"]


def test_a_scrape_reads_each_file_once_and_has_histograms_in_order(tmp_path: Path) -> None:
    program = """
from prometheus_client import Histogram
from bentoml._internal.server.metrics.prometheus import PrometheusClient
Histogram("h", "text", buckets=(10, 9.5e1), registry=None).observe(20)
reads = []
read = MultiProcessCollector.merge
def merge(files, accumulate):
    reads.append(len(files))
    return read(files, accumulate)
MultiProcessCollector.merge = staticmethod(merge)
client = PrometheusClient()
assert client.registry
text = client.generate_latest().decode()
print(reads)
print([line.split()[0] for line in text.splitlines() if not line.startswith("#")])
"""
    assert run(tmp_path, program) == [
        "[1]",
        str(['h_bucket{le="10.0"}', 'h_bucket{le="95.0"}', 'h_bucket{le="+Inf"}', "h_count", "h_sum"]),
    ]
