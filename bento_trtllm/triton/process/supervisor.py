"""Keeps one Triton running for all workers of a service.

Every worker has a Supervisor. The one that gets the lock in the run folder owns Triton: starts it, asks it whether
it is well, and starts it again when it ended or no longer answers, after a wait that doubles up to a limit. The
others read what the owner writes, and try for the lock: they get it when the owner stops or dies, and Triton never
outlives its owner. Then one of them owns the next Triton.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process.door import LOOPBACK
from bento_trtllm.triton.process.launch import Launcher, tritonserver
from bento_trtllm.triton.process.reaper import lives
from bento_trtllm.triton.process.run_folder import RunFolder, State, Status
from bento_trtllm.triton.process.server import Place, TritonServer, Verify
from bento_trtllm.triton.process.watch import watch

LOGGER = logging.getLogger("bento_trtllm.triton")
FOLLOW_S = 0.1
"""How often a worker that is not the owner reads the status and tries for the lock."""
LEAVE_S = 2.0
"""What Triton has for its own end when all answers are out; of the demo model it takes a fifth of that."""
FORGIVEN_S = 10.0
"""A Triton that was ready for so long had started well: it is started again as after its first failure."""
GONE = "The worker that owned Triton is gone."
RETRY_S = 1.0
"""Wait before a file that could not be written is tried again."""


class Supervisor:
    """One worker's view of the service's Triton, and its share in keeping it alive.

    supervisor = Supervisor(lambda folder: place_repository(packed, folder, {}), settings)
    await supervisor.start()
    address = (await supervisor.wait_ready(timeout_s=60)).address
    await supervisor.stop()
    """

    def __init__(
        self,
        place: Place,
        settings: TritonSettings,
        *,
        gpu: bool = False,
        launcher: Launcher = tritonserver,
        folder: RunFolder | None = None,
        verify: Verify = lambda: None,
        joined: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """What has a TritonServer's names is for it; workers with one parent and equal settings share one.

        `joined` is called with the run folder, once or more, before this worker knows of any Triton. An OSError of it
        is one of the folder: it is tried again.

        Raises TritonError if the default run folder belongs to somebody else.
        """
        self.status = Status("starting", "Triton has not been started yet.")
        """The latest. It is a value: a change replaces it."""
        self.launched = asyncio.Event()
        """Set once there is a process of this worker's, or another worker has Triton."""
        self._settings = settings
        self._folder = folder or RunFolder.of_this_service(settings.model_dump_json())
        self._make = partial(
            TritonServer, place, settings, gpu=gpu, launcher=launcher, parent=self._folder.path, verify=verify
        )
        self._joined = joined
        self._task: asyncio.Task[None] | None = None
        self._server: TritonServer | None = None
        self._owner = False
        self._resigned = False
        self._changed = asyncio.Event()
        """Set at the next change, and replaced then."""
        self._subscribers: list[Callable[[Status], None]] = []
        self._telling: asyncio.TimerHandle | None = None
        self._trouble = ""
        """With the folder, while it lasts."""

    @property
    def state(self) -> State:
        return self.status.state

    @property
    def reason(self) -> str:
        """Why Triton is not ready, as a sentence for a person."""
        return self.status.reason

    @property
    def endpoint(self) -> str | None:
        """Where the Triton that is ready takes gRPC, as host:port; None while there is none."""
        return self.status.address

    async def start(self) -> None:
        """Begin; does not wait for Triton."""
        self._task = asyncio.create_task(self._run(), name="triton-supervisor")

    async def stop(self) -> None:
        """End, and with it Triton if this worker owns it. Returns when everything of it is gone."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        try:
            await asyncio.wait({task})
            if self._server:
                await self._end(self._server)
        finally:
            if self._owner:
                self._publish(self._next("restarting", "The worker that owned Triton has stopped."))
            self._folder.leave()
            self._owner = False
            self._publish(self._next("stopped", "The service is stopping."))

    async def wait_ready(self, timeout_s: float) -> Status:
        """Wait until Triton is ready; returns the status with its address.

        Raises TritonError, with the reason, when it failed, was stopped or is not ready in time.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settled(), timeout_s)
        if self.status.state != "ready":
            raise TritonError(f"Triton is not ready ({self.status.state}): {self.status.reason}")
        return self.status

    def subscribe(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Have `callback` called in the event loop at every change of the status; call the result to end it."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def look(self) -> None:
        """Learn now what the owner has told, not within FOLLOW_S: another worker may have answered by it already."""
        if self._task and not self._owner:
            with contextlib.suppress(OSError):
                self._read()

    def use(self) -> None:
        """Say that this worker sends new requests to this Triton."""
        self._folder.use(True)

    def resign(self) -> None:
        """Say that it sends none any more; if the owner goes, this worker does not take over from it."""
        self._resigned = True
        self._folder.use(False)

    @property
    def owner(self) -> bool:
        """Whether this worker owns Triton."""
        return self._owner

    def is_used(self) -> bool:
        """Whether any worker sends new requests to it or has open answers."""
        return self._folder.is_used() or not self._folder.all_answered()

    def is_gone(self) -> bool:
        """Whether every worker has left it, so that nothing of it is left."""
        return not self._folder.path.exists()

    def suspect(self) -> None:
        """The engine gives no tokens: have it looked at, and Triton started again if it stands still."""
        self._folder.suspect()

    def condemn(self, generation: int, reason: str) -> None:
        """The engine of that generation of Triton fails its requests: have it started again."""
        self._folder.condemn(generation, reason)

    def occupy(self, answers: bool) -> None:
        """Say whether this worker has open answers: a stop waits for them."""
        self._folder.occupy(answers)

    def all_answered(self) -> bool:
        """Whether no worker has open answers."""
        return self._folder.all_answered()

    async def _end(self, server: TritonServer) -> None:
        """Stop Triton, in peace as long as any worker has open answers.

        Not longer: Triton would wait until its exit timeout for what is never let go. It keeps a request whose client
        left as its last response was written (END_LIMIT_S of wire/probe.py), and NVIDIA's backend a response factory of
        each that it refused (sendEnqueueResponse in model_instance_state.cc, 0.10.0 to 1.3.0rc3).
        """
        stopping = asyncio.create_task(server.stop())
        try:
            while not stopping.done() and not self._folder.all_answered():
                await asyncio.wait({stopping}, timeout=FOLLOW_S)
            await asyncio.wait({stopping}, timeout=LEAVE_S)
            await server.kill()
        finally:
            stopping.cancel()
            await asyncio.wait({stopping})

    async def _settled(self) -> None:
        while self.status.state not in ("ready", "failed", "stopped"):
            await self._changed.wait()

    async def _run(self) -> None:
        while True:
            try:
                self._folder.join()
                self._joined(self._folder.path)
                while self._resigned or not self._folder.take():
                    self.launched.set()
                    self._read()
                    self._trouble = ""
                    await asyncio.sleep(FOLLOW_S)
                await self._own()
            except OSError as error:  # a full disk, say
                reason = f"The service cannot use its folder: {error}"
                if reason != self._trouble:
                    LOGGER.error("%s (tried again every %g s)", reason, RETRY_S)
                self._trouble = reason
                # Whoever follows a Triton that is ready has its address, whether or not it can read it once more.
                if self._owner or self.state != "ready":
                    self._publish(self._next("restarting", reason))
                if self._server:
                    await self._server.kill()
                await asyncio.sleep(RETRY_S)
            except Exception:  # a bug: nothing that a service may die of
                LOGGER.exception("the supervisor of Triton failed, and goes on")
                if self._server:
                    self._publish(self._next("restarting", "The supervisor of Triton failed: see the server's log."))
                    await self._server.kill()
                await asyncio.sleep(self._settings.restart_max_delay_s)

    def _read(self) -> None:
        status = self._folder.read()
        # Triton ends with its owner, which can tell nobody, and the next one does not own it yet.
        if status and status.state == "ready" and not lives(status.owner):
            status = replace(status, state="restarting", reason=GONE, address=None, metrics=None)
        if status and status != self.status:
            self._publish(status)

    async def _own(self) -> None:
        """Keep Triton running, for ever."""
        again = self._owner
        last = self.status if again else self._folder.read()
        self._owner = True
        self.status = replace(last or self.status, owner=os.getpid())
        if last:
            if not again:
                LOGGER.warning("this worker takes over: the one that owned Triton is gone")
            self._publish(replace(self._next("restarting", last.reason if again else GONE), restarts=last.restarts + 1))
        else:
            self._publish(self._next("starting", "Triton is loading the model."))
        while True:
            reason, ready_s = await self._serve()
            forgiven = ready_s >= min(FORGIVEN_S, self._settings.restart_max_delay_s)
            failures = 1 if forgiven else self.status.failures + 1
            failed = failures >= self._settings.restart_failures_before_failed
            delay_s = self._settings.restart_max_delay_s
            if not failed:
                delay_s = min(delay_s, self._settings.restart_first_delay_s * 2 ** (failures - 1))
            count = f"failed: {failures} times" if failed else f"failure {failures}"
            LOGGER.error("%s (%s in a row; next start in %g s)", reason, count, delay_s)
            status = self._next("failed" if failed else "restarting", reason)
            self._publish(replace(status, failures=failures, restarts=status.restarts + 1))
            await asyncio.sleep(delay_s)

    async def _serve(self) -> tuple[str, float]:
        """One Triton from start to end; returns why it ended, and for how many seconds it was ready."""
        began = time.monotonic()
        self._server = server = self._make(launched=self.launched.set)
        try:
            await server.start()
        except TritonError as error:
            return str(error), 0.0
        self._trouble = ""
        LOGGER.info("Triton is ready after %.1f s at %s", time.monotonic() - began, server.address)
        began = time.monotonic()
        ready = replace(self._next("ready"), generation=self.status.generation + 1)
        metrics = f"{LOOPBACK}:{server.ports.metrics}"
        self._publish(replace(ready, address=server.address, metrics=metrics))
        settings, condemned = self._settings, partial(self._folder.condemned, self.status.generation)
        reason = await watch(server, settings, suspected=self._folder.suspected, condemned=condemned)
        self._publish(self._next("restarting", reason))  # at once: killing takes seconds where GPU memory is freed
        await server.kill()
        return reason, time.monotonic() - began

    def _next(self, state: State, reason: str = "") -> Status:
        """The status after a change; without the addresses, which only a Triton that is ready has."""
        return replace(self.status, state=state, reason=reason, address=None, metrics=None)

    def _publish(self, status: Status) -> None:
        self.status = status
        self._tell()
        self._changed.set()
        self._changed = asyncio.Event()
        for callback in tuple(self._subscribers):
            try:
                callback(status)
            except Exception:
                LOGGER.exception("a subscriber to Triton's status failed")

    def _tell(self) -> None:
        """Write the status down for the other workers: now, or, if it cannot be, as soon as it can."""
        if self._telling:
            self._telling.cancel()
        if not self._owner:
            return
        try:
            with contextlib.suppress(FileNotFoundError):  # the service is ending
                self._folder.write(self.status)
        except OSError as error:  # Triton itself is as well as before
            LOGGER.error("could not tell the other workers about Triton: %s", error)
            self._telling = asyncio.get_running_loop().call_later(RETRY_S, self._tell)
