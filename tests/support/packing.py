"""pack_model.py as a user runs it."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.warm import ROOT, fork

PROGRAM = ROOT / "pack_model.py"


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
    cwd: Path = ROOT,
    limit: int = resource.RLIM_INFINITY,
    program: Path = PROGRAM,
    timeout_s: float = 120,
) -> Packed:
    """Run it, or another program that imports the same; no file may grow past `limit` bytes.

    Raises TimeoutError, and then it does not run any more.
    """
    with fork(program, arguments, environment, cwd, limit) as forked:
        forked.process.join(timeout_s)
        if forked.process.exitcode is None:
            raise TimeoutError(f"{program} runs after {timeout_s} s: {forked.err()}")
        return Packed(forked.process.exitcode, forked.out(), forked.err())
