"""One tritonserver: started in a folder of its own, ready with all its models, and removed without a trace."""

import asyncio
import logging
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import installation, reaper
from bento_trtllm.triton.process.door import LOOPBACK, Door
from bento_trtllm.triton.process.forsaken import Forsaken
from bento_trtllm.triton.process.launch import Launch, Launcher, Ports, Start, tritonserver
from bento_trtllm.triton.process.log import TritonLog
from bento_trtllm.triton.process.metrics import iterations, scrape
from bento_trtllm.triton.process.reaped import ReapedProcess
from bento_trtllm.triton.process.safe_path import CWD, safe_path
from bento_trtllm.triton.process.stall import LoadWatch, Vitals, hangs
from bento_trtllm.triton.wire.probe import Health

LOGGER = logging.getLogger("bento_trtllm.triton")
POLL_S = 0.02
ANSWER_S = 1.0
LOOK_S = 1.0
"""How often a loading Triton is checked for progress."""
ATTEMPTS = 5
"""How often Triton is started that finds a port taken, or gives up a model's process that was only late."""
SECRET = "--grpc-restricted-protocol="
"""Arguments that contain a key, and are not logged."""

Place = Callable[[Path], Path]
"""Makes a model repository in a folder that is removed with Triton, or returns the path of an existing one."""
Verify = Callable[[], None]
"""Raises TritonError if what Triton is to load, or has loaded, is not what it should be. Called in a thread."""


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
        verify: Verify = lambda: None,
        launched: Callable[[], None] = lambda: None,
    ) -> None:
        """`verify` is called before each start, and again once all is loaded, in case the pack changed meanwhile.
        `launched` is called as soon as there is a process.

        `parent` is where the folder is made, $TMPDIR by default; without `found`, Triton is looked for.
        """
        self.place = place
        self.settings = settings
        self.gpu = gpu
        self.launcher = launcher
        self.parent = parent
        self.verify = verify
        self._launched = launched
        self._found = found
        self._door = Door.of(settings)
        self._ports: Ports | None = None
        self._folder = Path()
        self._models: list[str] = []
        self._process: ReapedProcess | None = None
        self._log = TritonLog(LOGGER)
        self._health: Health | None = None

    @property
    def ports(self) -> Ports:
        """Raises TritonError before the start."""
        if self._ports is None:
            raise TritonError("Triton has not been started.")
        return self._ports

    @property
    def address(self) -> str:
        """Triton's gRPC address, as host:port."""
        return self._door.at(self.ports.grpc)

    @property
    def folder(self) -> Path:
        """The folder with all of this Triton's files, removed with it. Its name is Triton's server id."""
        return self._folder

    @property
    def tail(self) -> Sequence[str]:
        """The last lines that Triton wrote."""
        return tuple(self._log.tail)

    @property
    def returncode(self) -> int | None:
        """Triton's exit code, or minus the signal that killed it; None until all its processes are gone."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start Triton, and return when it and all of its models are ready.

        Raises TritonError if Triton ends or is not ready in time, with the model's own message if a model could not be
        loaded. Nothing is left running then, or when the call is cancelled.
        """
        if self._process:
            raise TritonError("This Triton has been started before: make another.")
        found = self._found or installation.find()
        deadline = time.monotonic() + self.settings.startup_timeout_s
        await asyncio.to_thread(self.verify)
        try:
            for _ in range(ATTEMPTS):
                self._door.check()
                self._execute(found)
                self._launched()
                if await self._until_ready(deadline):
                    await asyncio.to_thread(self.verify)
                    return
            raise TritonError(f"Triton could not start {ATTEMPTS} times in a row: {self._log.reason()}")
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Wait until Triton and everything it started is gone; returns the return code."""
        if self._process is None:
            raise TritonError("Triton has not been started.")
        await self._process.ended.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    def why_ended(self) -> str:
        """How Triton ended and why, by its log, as a sentence."""
        code = self.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"tritonserver {how}: {self._log.reason()}"

    async def answers(self, deadline_s: float) -> bool:
        """Whether Triton reports within the deadline that it is ready."""
        return self._health is not None and await self._health.answers(deadline_s)

    async def engine_stands_still(self) -> bool:
        """Whether the engine makes no step for stall_limit_s. Takes that long, or until the engine makes one."""
        if self._health is None or self._process is None:
            return False
        settings, address = self.settings, f"{LOOPBACK}:{self.ports.metrics}"

        async def steps() -> float | None:
            return iterations(await scrape(address))

        engine = Vitals(steps, self._health.engine_answers, self._process.activity)
        limit_s = settings.stall_limit_s
        # A GPU's work keeps no core busy, and none of its steps takes seconds.
        step_limit_s = limit_s if self.gpu else max(limit_s, settings.step_limit_s)
        return await hangs(engine, settings.health_interval_s, limit_s, step_limit_s)

    async def stop(self) -> None:
        """End Triton: gracefully for stop_timeout_s, then by force. Returns when everything is gone.

        May be called at any time and more than once. When cancelled, it kills at once.
        """
        try:
            if self._process and not await self._process.terminate():
                LOGGER.warning("tritonserver did not end in time and is killed")
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill Triton. Returns when everything is gone."""
        if self._health:
            await self._health.close()
            self._health = None
        if self._process and not self._process.ended.is_set():
            await self._process.kill()

    def _execute(self, found: installation.Installation) -> None:
        """Start a process, with a fresh folder, log and ports."""
        self._log = TritonLog(LOGGER)
        self._ports = Ports.free()
        if self._door.open:
            self._ports = replace(self._ports, grpc=self._door.port)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="triton-", dir=self.parent)).resolve()
        except OSError as error:
            raise TritonError(f"A folder for Triton cannot be created: {error}") from error
        try:
            try:
                launch = self._launch(found, self._ports)
            except OSError as error:
                first = error.args[0][0][-1] if isinstance(error, shutil.Error) else error  # of all those in copying
                raise TritonError(f"Triton's folder cannot be filled: {first}") from error
            LOGGER.debug("starting %s", " ".join(a for a in launch.argv if not a.startswith(SECRET)))
            limits = self.settings.stop_timeout_s, self.settings.stall_limit_s
            self._process = ReapedProcess(launch, self._folder, *limits, self._log.feed)
        except BaseException:
            reaper.sweep(str(self._folder))
            raise

    def _launch(self, found: installation.Installation, ports: Ports) -> Launch:
        (cwd := self._folder / CWD).mkdir()
        repository = self.place(self._folder).absolute()
        if found.backends:
            found = replace(found, backends=safe_path(found.backends, self._folder, "backends"))
        self._models = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
        if not self._models:
            raise TritonError(f"{repository} is not a Triton model repository: pack the model again.")
        start = Start(
            installation=found,
            repository=safe_path(repository, self._folder, "models"),
            folder=self._folder,
            cwd=cwd,
            ports=ports,
            key=secrets.token_hex(16),
            settings=self.settings,
            gpu=self.gpu,
            environ=os.environ,
        )
        return self.launcher(start)

    async def _until_ready(self, deadline: float) -> bool:
        """True when ready; False when another start may do: another process took a port, or a model's process was late.

        TritonError otherwise.
        """
        assert self._process
        self._health = Health(self.address, self._door.metadata)  # first, since its imports take a while
        loading, forsaken, look_at = LoadWatch(), Forsaken(), 0.0
        # Triton opens its metrics port last, when it already answers, and ends if that port is taken.
        while not await self._is_ready(self._health) or self._log.port_taken:
            if self._log.failure:  # no need to wait: Triton loads the other models first, then gives up
                raise TritonError(f"Triton could not load {self._log.failure}")
            if self._process.ended.is_set():
                if self._log.port_taken:
                    await self._health.close()
                    return False
                raise TritonError(f"Triton did not become ready: {self.why_ended()}")
            if time.monotonic() > deadline:
                limit, reason = self.settings.startup_timeout_s, self._log.reason()
                raise TritonError(f"Triton was not ready after {limit:g} s (startup_timeout_s): {reason}")
            if time.monotonic() >= look_at:
                still_s = loading.look(await self._process.activity(), self._log.lines)
                if still_s > self.settings.load_stall_limit_s:
                    raise TritonError(
                        f"Triton made no progress for {still_s:.3g} s while it loaded (load_stall_limit_s): no work, "
                        "no "
                        f"reading, no log line; {self._log.last()}"
                    )
                if await self._process.is_forsaken(forsaken):
                    LOGGER.warning("Triton waits for a model's process that it has given up, and is started again")
                    await self.kill()
                    return False
                look_at = time.monotonic() + LOOK_S
            await asyncio.sleep(POLL_S)
        self._log.settle()
        self._process.is_ready()
        return True

    async def _is_ready(self, health: Health) -> bool:
        # Probe only once the port is open: gRPC backs off longer and longer after refused connections.
        try:
            _, writer = await asyncio.open_connection(self._door.host, self.ports.grpc)
        except OSError:
            return False
        writer.close()
        return await health.ready(self._folder.name, self._models, ANSWER_S)
