"""A real `bentoml serve` under test, and the processes it consists of."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil

from benchmark.engine import TAG
from tests.support.launcher import Launched, NotReadyError, environment, free_port, launch

READY_LIMIT_S = 120

Group = Literal["gateway", "triton", "stubs", "other"]


class BenchError(Exception):
    """The benchmark cannot go on; one sentence says why."""


class Service(Launched):
    """A running service, and its processes by what they do."""

    @property
    def host(self) -> str:
        """Where HTTP is, as host:port."""
        return self.url.removeprefix("http://")

    def groups(self) -> dict[Group, list[psutil.Process]]:
        """`other` are BentoML's parent and the like, which should cost nothing."""
        found: dict[Group, list[psutil.Process]] = {"gateway": [], "triton": [], "stubs": [], "other": []}
        for process in self.processes():
            with suppress(psutil.Error):
                found[_group(process)].append(process)
        return found

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        """Raises BenchError, with what the service wrote, if it is not ready in time."""
        try:
            super().wait_ready(limit_s)
        except NotReadyError as error:
            raise BenchError(f"the service did not become ready: {error}") from error


def _group(process: psutil.Process) -> Group:
    name = process.name()
    if name == "tritonserver":
        return "triton"
    if name.startswith("triton_python_b"):
        return "stubs"
    return "gateway" if "_bentoml_impl.worker.service" in process.cmdline() else "other"


@contextmanager
def serve(home: Path, *, workers: int = 1, script: str = "", **settings: object) -> Iterator[Service]:
    """Serve the packed model TAG until the end of the block, by a script or `bentoml serve`; then nothing is left."""
    options = [
        word
        for name, value in {"model": TAG, "workers": workers, **settings}.items()
        for word in ("--arg", f"{name}={value}")
    ]
    with launch(Service, home / f"serve-{free_port()}.log", environment(home), *options, script=script) as service:
        yield service
