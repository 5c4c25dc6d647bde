"""A program of this project in a fork of a process that has its imports, which take seconds; what it does takes less.

Arguments, environment, folder, limits and output are those of a process of its own. Tests of how long a program takes
to start, of what a signal does to it, or of what /proc tells of its command and environment, start one.
"""

import atexit
import ctypes
import os
import resource
import runpy
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.forkserver import _forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# Not huggingface_hub, which reads the environment as it is imported.
IMPORTS = [
    "bentoml_cli.cli",
    "bento_trtllm.packing.pack",
    "bento_trtllm.engines.openvino.engine",
    "bento_trtllm.bento.tracing",
    "bento_trtllm.bento.traffic",
    "bento_trtllm.checks",
    "bento_trtllm.keys.keyring",
    "circus.arbiter",
]
WARM = get_context("forkserver")
WARM.set_forkserver_preload(IMPORTS)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Forked:
    """A program that was started, and what it has written so far."""

    process: BaseProcess
    folder: Path

    def out(self) -> str:
        return (self.folder / "out").read_text()

    def err(self) -> str:
        return (self.folder / "err").read_text()


class ForkedService(psutil.Process):
    """A program that was started to stay: what psutil.Popen is for a process of its own."""

    def __init__(self, forked: BaseProcess) -> None:
        super().__init__(forked.pid)
        self._forked = forked

    def poll(self) -> int | None:
        return self._forked.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises psutil.TimeoutExpired."""
        self._forked.join(timeout)
        if self._forked.exitcode is None:
            raise psutil.TimeoutExpired(timeout or 0, self.pid)
        return self._forked.exitcode


def start(module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path) -> ForkedService:
    """Run a module as -m does, in a session of its own, until it ends or this process has."""
    log.write_bytes(b"")
    process = WARM.Process(target=_stay, args=(module, list(arguments), dict(environment), cwd, log))
    process.start()
    return ForkedService(process)


@contextmanager
def fork(
    program: Path | str,
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    cwd: Path = ROOT,
    limit: int = resource.RLIM_INFINITY,
) -> Iterator[Forked]:
    """Run a file, or a module as -m does, until the end of the block; no file may grow past `limit` bytes."""
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        forked = Forked(
            WARM.Process(
                target=_run, args=(program, list(map(str, arguments)), dict(environment), cwd, limit, Path(folder))
            ),
            Path(folder),
        )
        for name in ("out", "err"):
            (forked.folder / name).touch()
        forked.process.start()
        try:
            yield forked
        finally:
            forked.process.kill()
            forked.process.join()


def _run(
    program: Path | str, arguments: list[str], environment: dict[str, str], cwd: Path, limit: int, folder: Path
) -> None:
    """In the fork: become what `python PROGRAM …` is, or `python -m PROGRAM …`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _become(program, arguments, environment, cwd, out=folder / "out", err=folder / "err")


def _stay(module: str, arguments: list[str], environment: dict[str, str], cwd: Path, log: Path) -> None:
    """In the fork: the same of what is to end with the process that it was forked from, which is to end with ours.

    That process waits until nobody holds the other end of a pipe any more (multiprocessing/forkserver.py), and a fork
    has it, too.
    """
    os.close(_forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    _become(module, arguments, environment, cwd, out=log, err=log)


def _become(
    program: Path | str, arguments: list[str], environment: dict[str, str], cwd: Path, out: Path, err: Path
) -> None:
    for descriptor, path in ((1, out), (2, err)):
        written = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(written, descriptor)
        os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    tempfile.tempdir = None  # read from the environment again
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = [str(program), *arguments]
    try:
        if isinstance(program, Path):
            runpy.run_path(str(program), run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
