"""A command run under reaper.py, as the worker sees it.

The worker holds the reaper's stdin, whose closing ends everything at once; the command's output, which a thread passes
on line by line; and the reaper's exit, which another thread waits for and then sweeps up. These are threads, so that
Triton never has to wait for a busy event loop to read its log.
"""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from bento_trtllm.triton.process import reaper
from bento_trtllm.triton.process.activity import Activity
from bento_trtllm.triton.process.forsaken import Forsaken
from bento_trtllm.triton.process.launch import Launch

KILL_LIMIT_S = 2.0
"""How long the reaper may take to kill everything, which normally takes milliseconds. Then it is killed itself."""


class ReapedProcess:
    """Make it in the event loop that waits for it. Raises OSError if even the reaper cannot be started.

    `folder` is removed with the process; `grace_s` is the time it has to end after `terminate`, and `stall_s` how long
    one of its stubs may be stopped; `on_line` is called in a thread.
    """

    def __init__(
        self, launch: Launch, folder: Path, grace_s: float, stall_s: float, on_line: Callable[[str], None]
    ) -> None:
        self.ended = asyncio.Event()
        """Set when everything is gone: the command, all that it started, and the folder."""
        self.returncode: int | None = None
        """The command's exit code, or minus the signal that killed it; None until it has ended."""
        self._folder = folder
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(folder), str(grace_s), str(stall_s), *launch.argv],
            cwd=launch.cwd,
            env=dict(launch.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the worker, which then stops Triton
        )
        assert self._process.stdout
        reading = threading.Thread(target=_read, args=(self._process.stdout, on_line), daemon=True)
        reading.start()
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()

    async def activity(self) -> Activity:
        """What the command and all processes below it have done so far."""
        return await asyncio.to_thread(Activity.below, self._process.pid)

    async def is_forsaken(self, watch: Forsaken) -> bool:
        """Whether the command, a Triton that loads, stands still for a model's process that it has given up."""
        return await asyncio.to_thread(watch.look, self._process.pid)

    def is_ready(self) -> None:
        """Have the reaper watch the stubs from now on."""
        self._send(reaper.READY)

    async def terminate(self) -> bool:
        """Have the reaper ask the command to end, and wait; False if it has not ended when its time is up."""
        self._send(reaper.TERMINATE)
        try:
            await asyncio.wait_for(self.ended.wait(), self._grace_s + KILL_LIMIT_S)
        except asyncio.TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """Kill everything, and return when it is gone."""
        assert self._process.stdin
        self._process.stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ended.wait(), KILL_LIMIT_S)
        if not self.ended.is_set():
            self._process.kill()
            await self.ended.wait()

    def _send(self, message: bytes) -> None:
        assert self._process.stdin
        if not self._process.stdin.closed:  # otherwise it is already being killed
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(message)
                self._process.stdin.flush()

    def _watch(self, reading: threading.Thread) -> None:
        """In a thread: wait for the reaper's end, and clean up if it was killed."""
        code = self._process.wait()
        with contextlib.suppress(OSError):
            reaper.sweep(str(self._folder))
        reading.join(KILL_LIMIT_S)  # the last lines have the reason; the pipe ends when its last writer does
        self.returncode = 128 - code if code > 128 else code
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits
            self._loop.call_soon_threadsafe(self.ended.set)


def _read(stream: IO[bytes], on_line: Callable[[str], None]) -> None:
    """In a thread: pass on every line, until the last writer is gone."""
    with stream:
        for line in stream:
            on_line(line.decode(errors="replace").rstrip("\r\n"))
