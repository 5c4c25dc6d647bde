"""A program of this project in a fork of a process that has its imports, which take seconds; what it does takes less.

Arguments, environment, folder, limits and output are those of a process of its own. Tests of how long a program takes
to start, or of what a signal does to it, start one.
"""

import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Not huggingface_hub, which reads the environment as it is imported.
IMPORTS = ["bentoml_cli.cli", "bento_trtllm.packing.pack", "bento_trtllm.engines.openvino.engine", "bento_trtllm.llm"]
WARM = get_context("forkserver")
WARM.set_forkserver_preload([*IMPORTS, "bento_trtllm.api.web", "circus.arbiter"])


@dataclass(frozen=True)
class Forked:
    """A program that was started, and what it has written so far."""

    process: BaseProcess
    folder: Path

    def out(self) -> str:
        return (self.folder / "out").read_text()

    def err(self) -> str:
        return (self.folder / "err").read_text()


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
    for descriptor, name in ((1, "out"), (2, "err")):
        written = os.open(folder / name, os.O_WRONLY)
        os.dup2(written, descriptor)
        os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    tempfile.tempdir = None  # read from the environment again
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = [str(program), *arguments]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if isinstance(program, Path):
        runpy.run_path(str(program), run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
