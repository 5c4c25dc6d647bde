"""Workers that die are replaced at once, by circus itself; and later each time where they die in a row."""

import subprocess
import sys
from unittest.mock import Mock

import pytest

from bento_trtllm.bento.respawn import CIRCUS_S, Respawn

# circus would look by itself after ten minutes.
BEGIN = """
import os, signal
from bento_trtllm.bento.arbiter import forward_signals, patch_arbiter
from bentoml._internal.utils.circus import create_standalone_arbiter
from bentoml.serving import create_watcher
patch_arbiter()
forward_signals()
watcher = create_watcher(name="sleeper", args=["600"], cmd="sleep", numprocesses=2)
arbiter = create_standalone_arbiter([watcher], check_delay=600)
"""
KILL = """
seen = set()

def look():
    now = set(watcher.processes)
    if len(now) == 2 and not seen:
        seen.update(now)
        first, second = seen
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGKILL)
    elif len(now) == 2 and now - seen:
        print("replaced", len(now - seen), "kept", len(now & seen))
        os.kill(max(now & seen), signal.SIGCONT)
        return arbiter.stop()
    arbiter.loop.call_later(0.02, look)

arbiter.loop.call_later(0.02, look)
arbiter.start()
"""


def test_a_killed_worker_is_replaced_at_once_and_a_stopped_one_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + KILL], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "replaced 1 kept 1\n", done.stderr


TERMINATE = """
watcher.warmup_delay = 0.3  # for so long it is busy with a worker that it has started
killed = []

def spawned(**_):
    if killed:
        os.kill(os.getpid(), signal.SIGTERM)
    return True

def look():
    if len(watcher.processes) == 2 and not arbiter._exclusive_running_command:
        killed.append(min(watcher.processes))
        os.kill(killed[0], signal.SIGKILL)
    else:
        arbiter.loop.call_later(0.02, look)

watcher.hooks["after_spawn"] = spawned
arbiter.loop.call_later(0.02, look)
arbiter.start()
print("stopped after", len(killed), "death with", len(watcher.processes), "workers")
"""


def test_a_signal_that_comes_while_a_worker_is_replaced_ends_all() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + TERMINATE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "stopped after 1 death with 0 workers\n", done.stderr


def test_deaths_in_a_row_are_mended_later_each_time() -> None:
    respawn = Respawn(Mock())
    assert [respawn.delay_s(now) for now in (100, 101, 102, 103, 104)] == [0, 0.25, 0.5, 1, 2]
    assert respawn.delay_s(104 + CIRCUS_S + 1) == 0
    for second in range(200):
        last = respawn.delay_s(200 + second / 10)
    assert last == pytest.approx(CIRCUS_S)
