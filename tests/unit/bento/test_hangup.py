"""What a SIGHUP does to `bentoml serve`: a terminal that is closed ends it; nohup, and no terminal, have it ignored."""

import os
import pty
import subprocess
import sys

import pytest

HANG_UP = """
import fcntl, os, signal, sys, termios
from bento_trtllm.bento.arbiter import forward_signals, patch_arbiter
from bentoml._internal.utils.circus import create_standalone_arbiter
from circus.sighandler import SysHandler

if "terminal" in sys.argv:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
# What runs the tests may itself have been started by nohup.
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
heard = []
SysHandler.handle_hup = lambda owner: heard.append("all workers start anew")
SysHandler.handle_term = lambda owner: heard.append("it ends")
patch_arbiter()
forward_signals()
arbiter = create_standalone_arbiter([])

def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)
    print(*heard or ["it goes on"])
    arbiter.stop()

arbiter.loop.add_callback(hang_up)
arbiter.start()
"""


@pytest.mark.parametrize(
    ("started", "said"),
    [(["terminal"], "it ends"), (["terminal", "nohup"], "it goes on"), ([], "it goes on")],
    ids=["terminal", "nohup", "no-terminal"],
)
def test_hangup(started: list[str], said: str) -> None:
    master, slave = pty.openpty()
    argv = [sys.executable, "-c", HANG_UP, *started]
    with os.fdopen(master, "rb"), os.fdopen(slave, "rb") as terminal:
        done = subprocess.run(
            argv, stdin=terminal, stdout=subprocess.PIPE, start_new_session=True, timeout=60, check=True
        )
    assert done.stdout.decode().strip() == said
