"""pack_model.py as a user runs it, in a fork of a process that has its imports: they take two seconds, packing 0.2.

The program, its arguments, environment, folder, limits and output are those of a process of its own. Tests of how long
it takes to start, or of what a signal does to it, start one.
"""

import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "pack_model.py"
# Not huggingface_hub, which reads the environment as it is imported.
IMPORTS = ["bento_trtllm.packing.pack", "bento_trtllm.engines.openvino.engine"]
WARM = get_context("forkserver")
WARM.set_forkserver_preload(IMPORTS)


@dataclass(frozen=True)
class Packed:
    """How it ended."""

    code: int
    out: str
    err: str

    def check(self) -> None:
        """Raises AssertionError with what it said if it failed."""
        assert self.code == 0, self.err


def pack_model(
    *arguments: str | Path,
    environment: Mapping[str, str],
    cwd: Path = PROGRAM.parent,
    limit: int = resource.RLIM_INFINITY,
    program: Path = PROGRAM,
    timeout_s: float = 120,
) -> Packed:
    """Run it, or another program that imports the same; no file may grow past `limit` bytes.

    Raises TimeoutError, and then it does not run any more.
    """
    with tempfile.TemporaryDirectory(prefix="packing-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        argv = [str(program), *map(str, arguments)]
        process = WARM.Process(target=_run, args=(argv, dict(environment), cwd, limit, str(out), str(err)))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{program} runs after {timeout_s} s: {err.read_text()}")
        return Packed(process.exitcode, out.read_text(), err.read_text())


def _run(argv: list[str], environment: dict[str, str], cwd: Path, limit: int, out: str, err: str) -> None:
    """In the fork: become what `python pack_model.py …` is."""
    for descriptor, file in ((1, out), (2, err)):
        written = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(written, descriptor)
        os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    tempfile.tempdir = None  # read from the environment again
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = argv
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    runpy.run_path(argv[0], run_name="__main__")
