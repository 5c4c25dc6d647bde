"""The processes of a service, and what they leave behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.serving import Service
from tests.support.tiny import cmdline_of, until


def workers(service: Service) -> set[int]:
    return {p.pid for p in service.process.children() if any("worker.service" in a for a in cmdline_of(p))}


@contextmanager
def alone(service: Service, worker: int) -> Iterator[None]:
    """The others stand still, so that this one takes all new connections."""
    others = [psutil.Process(other) for other in workers(service) - {worker}]
    try:
        for other in others:
            other.suspend()
        until(lambda: all(other.status() == psutil.STATUS_STOPPED for other in others))
        yield
    finally:
        for other in others:
            other.resume()


def peers(process: psutil.Process) -> set[int]:
    """The ports of those that it is connected with."""
    return {connection.raddr.port for connection in process.net_connections("tcp") if connection.raddr}


def owner(service: Service) -> psutil.Process:
    """The worker that has Triton: between them is the reaper."""
    (triton,) = service.tritons()
    return triton.parents()[1]


def triton_id(service: Service) -> str:
    """What the names of all that Triton leaves begin with."""
    (triton,) = service.tritons()
    return next(a.partition("=")[2] for a in triton.cmdline() if a.startswith("--id="))


def left_over(marker: str) -> list[psutil.Process]:
    """Processes whose environment holds the marker."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and marker in process.environ().values():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def traces(folder: Path, triton: str) -> list[str]:
    """What a Triton of that id, of a service with that $TMPDIR, has left: all but the folders that services share."""
    shared = [p.name for p in Path("/dev/shm").iterdir() if p.name.startswith(triton)]
    run = folder / f"bento-trtllm-{os.getuid()}" / "run"
    return shared + [str(p) for p in folder.rglob("*") if p not in (run, run.parent)]
