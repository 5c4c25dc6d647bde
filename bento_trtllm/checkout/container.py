"""Runs a command in the service's environment inside NVIDIA's container: what scripts/container_entry runs.

The environment is made once, beside the image's own Python (/usr/bin/python3, from 26.03 on that of
/opt/venv-tritonserver, which is first on the image's PATH) and without its packages: those stay as NVIDIA made them,
and are what converts the checkpoint and builds the engine.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from bento_trtllm.checkout.environment import CURRENT, PIP, ROOT, enter, make_once, run


def place(variables: Mapping[str, str]) -> Path:
    """Of the environment, for a process with these environment variables."""
    return Path(variables.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "environment"


def _make(environment: Path, requirements: Path) -> None:
    print("Installing the service's environment (a minute, the first time) ...", file=sys.stderr, flush=True)
    shutil.rmtree(environment, ignore_errors=True)
    # The image may lack ensurepip: its own pip puts a current one there, from outside.
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    python = str(environment / "bin/python3")
    run([sys.executable, "-m", "pip", "--python", python, *PIP, CURRENT])
    run([python, "-m", "pip", *PIP, "-r", str(requirements)])


def main(command: list[str]) -> int:
    """Become the command; 2 with a sentence where there is none or no environment, and 127 where it cannot be run."""
    if not command:
        print("error: give a command to run, such as: scripts/container_entry bentoml serve", file=sys.stderr)
        return 2
    environment, requirements = place(os.environ), ROOT / "requirements.txt"
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        lock = environment.with_name("environment.lock")
        make_once(lock, environment / "installed", [requirements], lambda: _make(environment, requirements))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    enter(environment, os.environ)
    os.environ["VIRTUAL_ENV"] = str(environment)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"error: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
