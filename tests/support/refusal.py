"""A service that refuses to be served: one sentence, exit code 2, and a port that never accepts."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.launcher import bound
from tests.support.serving import ROOT, environment, free_port
from tests.support.tiny import listens

LIMIT_S = 90
"""To end; a few seconds on an idle machine, most of which are imports."""


def refused(command: list[str], home: Path, **env: str) -> str:
    """The one sentence with which a service ends. Its port never accepts anybody."""
    port = free_port()
    process = subprocess.Popen(
        bound([*command, "--host", "127.0.0.1", "--port", str(port)]),
        cwd=ROOT, env=environment(home, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            assert not listens(port)
            time.sleep(0.02)
        assert process.poll() == 2
    finally:
        process.kill()
        out, err = process.communicate()
    assert out == "", out
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


def bentoml(*arguments: str) -> list[str]:
    options = [option for argument in arguments for option in ("--arg", argument)]
    return [sys.executable, "-m", "bentoml", "serve", "service:TRTLLM", *options]
