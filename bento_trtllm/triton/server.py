"""One tritonserver process: started in a folder of its own, ready, watched, and gone without a trace.

The worker starts reaper.py, and that starts Triton. The worker holds three ends of it: the reaper's stdin,
whose closing ends everything at once; Triton's output, which a thread passes on to logging; and the
reaper's exit, which another thread waits for and then sweeps up. Threads, not the event loop, so that a
busy loop never makes Triton wait.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton import installation, reaper
from bento_trtllm.triton.health import Health
from bento_trtllm.triton.launch import LOOPBACK, Launcher, Ports, Start, tritonserver
from bento_trtllm.triton.log import TritonLog

LOGGER = logging.getLogger("bento_trtllm.triton")
POLL_S = 0.02
ANSWER_S = 1.0
Place = Callable[[Path], Path]
"""Makes a model repository in a folder that is removed with Triton, or names one that is there; returns its path."""
PORT_ATTEMPTS = 5
KILL_LIMIT_S = 2.0
"""What the reaper has for killing, which takes it milliseconds. After that it is killed itself."""


class TritonServer:
    """A tritonserver that serves one model repository.

    `start` it once, in the event loop that also waits for it and stops it.
    """

    def __init__(
        self,
        place: Place,
        settings: TritonSettings,
        *,
        gpu: bool = False,
        found: installation.Installation | None = None,
        launcher: Launcher = tritonserver,
        parent: Path | None = None,
    ) -> None:
        """`parent` is where the folder is made, $TMPDIR by default; `found` is looked for by default."""
        self.place = place
        self.settings = settings
        self.gpu = gpu
        self.launcher = launcher
        self.parent = parent
        self.returncode: int | None = None
        """Set when everything has ended: the exit code, or minus the signal that killed Triton."""
        self._found = found
        self._ports: Ports | None = None
        self._folder = Path()
        self._models: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._log = TritonLog(LOGGER)
        self._ended = asyncio.Event()
        self._health: Health | None = None

    @property
    def ports(self) -> Ports:
        """Raises TritonError before the start."""
        if self._ports is None:
            raise TritonError("Triton has not been started.")
        return self._ports

    @property
    def address(self) -> str:
        """Where gRPC is, as host:port."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def folder(self) -> Path:
        """Everything of this Triton is in it, and it is gone after the end. Its name is Triton's server id."""
        return self._folder

    @property
    def tail(self) -> Sequence[str]:
        """The last lines that Triton wrote."""
        return tuple(self._log.tail)

    async def start(self) -> None:
        """Start Triton, and return when it and all of its models are ready.

        Raises TritonError when Triton ends or is not ready in time, with the model's own message where a
        model could not be loaded. Nothing is left running then, nor when the call is cancelled.
        """
        if self._process:
            raise TritonError("This Triton was started before: make another.")
        found = self._found or installation.find()
        deadline = time.monotonic() + self.settings.startup_timeout_s
        try:
            for _ in range(PORT_ATTEMPTS):
                self._execute(found)
                if await self._until_ready(deadline):
                    return
            raise TritonError(f"Triton found its ports taken {PORT_ATTEMPTS} times: {self._log.reason()}")
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Wait until Triton and everything it started have ended; returns the return code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def why_ended(self) -> str:
        """What Triton wrote last that sounds like a reason."""
        return self._log.reason()

    async def answers(self, deadline_s: float) -> bool:
        """Whether Triton says within the deadline that it is ready."""
        return self._health is not None and await self._health.answers(deadline_s)

    async def stop(self) -> None:
        """End Triton: politely for stop_timeout_s, then by force. Returns when everything is gone.

        May be called at any time and more than once. When cancelled, force comes at once.
        """
        if self._process is None:
            return
        try:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self._ended.wait(), self.settings.stop_timeout_s + KILL_LIMIT_S)
        except asyncio.TimeoutError:
            LOGGER.warning("tritonserver did not end in time and is killed")
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End Triton by force, as for one that does not answer. Returns when everything is gone."""
        if self._health:
            await self._health.close()
            self._health = None
        if self._process is None or self._ended.is_set():
            return
        assert self._process.stdin
        self._process.stdin.close()
        ended = asyncio.ensure_future(self._ended.wait())
        # Shielded: whoever cancels this wants it to end soon, and it does, but not half done.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), KILL_LIMIT_S)
        if not ended.done():
            self._process.kill()
            await ended

    def _execute(self, found: installation.Installation) -> None:
        """Start the reaper, which starts Triton."""
        self._ended.clear()
        self._log = TritonLog(LOGGER)
        self._ports = Ports.free()
        self._folder = Path(tempfile.mkdtemp(prefix="triton-", dir=self.parent)).resolve()
        try:
            (cwd := self._folder / "cwd").mkdir()
            repository = self.place(self._folder)
            self._models = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
            if not self._models:
                raise TritonError(f"{repository} is no Triton model repository: pack the model again.")
        except BaseException:
            reaper.sweep(str(self._folder))
            raise
        start = Start(
            installation=found,
            repository=repository.absolute(),
            folder=self._folder,
            cwd=cwd,
            ports=self._ports,
            key=secrets.token_hex(16),
            settings=self.settings,
            gpu=self.gpu,
            environ=os.environ,
        )
        launch = self.launcher(start)
        LOGGER.debug("starting %s", " ".join(launch.argv))
        grace = str(self.settings.stop_timeout_s)
        argv = [sys.executable, "-I", "-S", reaper.__file__, str(self._folder), grace, *launch.argv]
        self._process = process = subprocess.Popen(
            argv,
            cwd=launch.cwd,
            env=dict(launch.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the worker, which then stops Triton
        )
        assert process.stdout
        reading = threading.Thread(target=_read, args=(process.stdout, self._log), daemon=True)
        reading.start()
        arguments = (process, self._folder, reading, asyncio.get_running_loop())
        threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        reading: threading.Thread,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """In a thread: wait for the reaper's end, and do what is left if it was killed."""
        code = process.wait()
        with contextlib.suppress(OSError):
            reaper.sweep(str(folder))
        reading.join()  # the last lines have the reason, and the pipe ends with those who wrote to it
        self.returncode = 128 - code if code > 128 else code
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._ended.set)

    async def _until_ready(self, deadline: float) -> bool:
        """True when ready; False when another process took a port; TritonError otherwise."""
        self._health = Health(self.address)  # first, since its imports take a while
        while not (await self._listens() and await self._health.ready(self._folder.name, self._models, ANSWER_S)):
            if self._log.failure:  # no need to wait: Triton first loads the others, then gives up
                raise TritonError(f"Triton could not load {self._log.failure}")
            if self._ended.is_set():
                if self._log.port_taken:
                    await self._health.close()
                    return False
                code, reason = self.returncode, self._log.reason()
                raise TritonError(f"tritonserver ended with code {code} before it was ready: {reason}")
            if time.monotonic() > deadline:
                limit, reason = self.settings.startup_timeout_s, self._log.reason()
                raise TritonError(f"Triton was not ready after {limit:g} s (startup_timeout_s): {reason}")
            await asyncio.sleep(POLL_S)
        return True

    async def _listens(self) -> bool:
        """Whether somebody listens on the port: cheaper than gRPC, and with no waiting after a refusal."""
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.ports.grpc)
        except OSError:
            return False
        writer.close()
        return True


def _read(stream: IO[bytes], log: TritonLog) -> None:
    """In a thread: pass on what Triton writes, until the last one who may write is gone."""
    with stream:
        for line in stream:
            log.feed(line.decode(errors="replace").rstrip("\r\n"))
