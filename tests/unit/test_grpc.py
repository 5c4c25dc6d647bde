"""What the service sets for grpc-python, which says nothing of a setting that it knows."""

import os
import subprocess
import sys

from bento_trtllm.triton.wire.probe import GRPC_ENVIRONMENT

OPEN_CHANNEL = "import grpc; grpc.insecure_channel('127.0.0.1:1').close()"


def said(environment: dict[str, str]) -> str:
    """What a Python with these variables writes while it opens a channel."""
    argv = [sys.executable, "-c", OPEN_CHANNEL]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_grpc_knows_the_experiments() -> None:
    assert not said({variable["name"]: variable["value"] for variable in GRPC_ENVIRONMENT})


def test_grpc_tells_of_one_that_it_does_not_know() -> None:
    """Else the test above could not fail."""
    assert "no_such_experiment" in said({"GRPC_EXPERIMENTS": "-no_such_experiment"})
