"""A service that refuses to be served: one sentence, exit code 2, and a port that never accepts."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.launcher import bound
from tests.support.serving import ROOT, environment, free_port
from tests.support.tiny import listens
from tests.support.warm import fork

END_LIMIT_S = 90
"""To end; a few seconds on an idle machine, most of which are imports."""


def refused(command: list[str], home: Path, **env: str) -> str:
    """The one sentence with which a service ends. Its port never accepts anybody."""
    port = free_port()
    process = subprocess.Popen(
        bound([*command, *place(port)]),
        cwd=ROOT, env=environment(home, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert ends(process.poll, port) == 2
    finally:
        process.kill()
        out, err = process.communicate()
    return sentence(out, err)


def refused_serve(home: Path, *settings: str, port: int | None = None, **env: str) -> str:
    """The same of `bentoml serve` with such settings."""
    port = free_port() if port is None else port
    options = [option for setting in settings for option in ("--arg", setting)]
    arguments = ["serve", "service:TRTLLM", *options, *place(port)]
    with fork("bentoml", arguments, environment(home, **env)) as forked:
        assert ends(lambda: forked.process.exitcode, port) == 2
        return sentence(forked.out(), forked.err())


def place(port: int) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(port)]


def ends(code: Callable[[], int | None], port: int) -> int | None:
    """The exit code with which it ends; None if it does not. Nobody listens meanwhile.

    Not at what getaddrinfo makes of a port that there is not either.
    """
    deadline = time.monotonic() + END_LIMIT_S
    while (now := code()) is None and time.monotonic() < deadline:
        assert not listens(port % 2**16)
        time.sleep(0.02)
    return now


def sentence(out: str, err: str) -> str:
    assert out == "", out
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err
