"""The place of one model in a worker: the model, and while another takes its place, both.

Every worker looks at the orders for a seat and does its part; the leader says how far all are. Each step can be
repeated, so a worker that comes late, or in another's place, does what is still to do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bento_trtllm.api.variants import check_names
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.errors import BentoTRTLLMError, EngineError, StoreError
from bento_trtllm.llm import LLM
from bento_trtllm.swap.orders import ALONE, Orders, Pack, Progress, Stage, Wanted

LOGGER = logging.getLogger("bento_trtllm")
STEP_S = 0.05
"""How often a worker goes on with a swap."""


class Seat:
    """Make it in a worker. Raises what `make` raises, for the pack that the service serves there now."""

    def __init__(
        self,
        packed: Path,
        settings: Settings,
        make: Callable[[Path], LLM],
        orders: Orders,
        others: Callable[[], Sequence[Sequence[str]]] = list,
    ) -> None:
        """`others` are the names of the models in other seats."""
        self._first = packed
        self._settings = settings
        self._new = make
        self._orders = orders
        self._others = others
        self._draining = False
        serving = orders.read(Pack)
        self.model = self._make(serving) if serving else make(packed)
        """The one that new requests are for."""
        self._candidate: LLM | None = None
        self._refused: int | None = None
        """The swap whose pack this worker could not open."""
        self._settled: int | None = None
        """The last swap that nothing is left to do for."""
        self._open = asyncio.Event()
        """Cleared during a pause, in which new requests wait."""
        self._retiring: dict[LLM, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Launch Triton, or join the one that another worker launched; does not wait for it."""
        serving = self._orders.read(Pack)
        if serving and not self._serves(serving):  # a swap went on since this was made
            self.model = self._make(serving)
        wanted, progress = self._orders.read(Wanted), self._orders.read(Progress)
        paused = wanted and progress and progress.serial == wanted.serial and progress.is_pause()
        if wanted and paused and not self._serves(wanted):
            # The old engine has ended, or is to: it must not come back beside the new one, for which this worker is.
            self._close(wanted)
            self.model.triton.launched.set()
            return
        self._open.set()
        self.model.triton.use()
        await self.model.start()

    def is_open(self) -> bool:
        """Whether its model takes requests, or does as soon as it is ready: there is no pause."""
        return self._open.is_set()

    async def stop(self) -> None:
        """End all that this worker started, and with the last worker, Triton."""
        retiring = list(self._retiring.values())
        for task in retiring:
            task.cancel()
        if retiring:
            await asyncio.wait(retiring)
        await asyncio.gather(*(model.stop() for model in self.models()))

    @asynccontextmanager
    async def visit(self, *, patient: bool) -> AsyncIterator[LLM]:
        """The model for one request, which does not end before the request does. Who is patient waits in a pause."""
        if patient and not self._open.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._open.wait(), self._settings.first_token_timeout_s)
        model = self.model
        model.visitors += 1
        try:
            yield model
        finally:
            model.visitors -= 1

    def drain(self) -> None:
        """Refuse new requests, those that wait in a pause as well, and leave every swap as it is."""
        self._draining = True
        self._open.set()
        for model in self.models():
            model.admission.drain()

    def models(self) -> list[LLM]:
        """All that are here, those that come and go included."""
        return [self.model, *self._retiring, *([self._candidate] if self._candidate else [])]

    def remember(self) -> None:
        """Write down what is served, for workers in this one's place. Raises OSError."""
        self._orders.folder.mkdir(0o700, parents=True, exist_ok=True)
        if self.model.path != self._first:
            # Where one worker serves alone, the folder goes with it; a worker in its place finds this again.
            self._orders.write(Pack(str(self.model.path), self.model.manifest.seal))

    async def step(self, leader: bool) -> bool:
        """Do what is to do now for the swap that is wanted; whether there is one, with something left to do."""
        wanted = self._orders.read(Wanted)
        if wanted is None or wanted.serial == self._settled:
            return False
        progress = self._orders.read(Progress)
        if progress and progress.serial != wanted.serial:
            progress = None
        if self._draining:
            if leader and (progress is None or progress.stage in ("pausing", "loading")):
                self._tell(wanted, "failed", "the service is stopping")
            return False
        if progress is None:
            if leader:
                await self._begin(wanted)
            return True
        match progress.stage:
            case "pausing":
                await self._pause(wanted, leader)
            case "loading":
                await self._load(wanted, leader, alone=progress.is_pause())
            case "moving":
                await self._move(wanted, leader)
            case "failed":
                await self._go_back()
                # Who waits in a pause is not refused while the old engine loads, unless that fails as well.
                if self._open.is_set() or not self.model.not_ready() or self.model.triton.status.failures:
                    self._open.set()
                    self._settled = wanted.serial
            case "done":
                await self._move(wanted, leader=False)
                if self._serves(wanted):
                    self._settled = wanted.serial
        return wanted.serial != self._settled

    def _tell(self, wanted: Wanted, stage: Stage, reason: str = "") -> None:
        LOGGER.info("swap to %s: %s%s", wanted.tag, stage, f" ({reason})" if reason else "")
        if stage == "moving":  # first: a worker that starts now must not begin with the old one
            self._orders.write(Pack(wanted.path, wanted.seal))
        self._orders.write(Progress(wanted.serial, stage, reason))

    def _serves(self, wanted: Pack) -> bool:
        return (self.model.path, self.model.manifest.seal) == (Path(wanted.path), wanted.seal)

    def _close(self, wanted: Wanted) -> None:
        """Have new requests wait."""
        self._open.clear()
        self.model.leaving = f"{wanted.tag} is taking this model's place: requests wait until it is ready."

    def _make(self, pack: Pack) -> LLM:
        model = self._new(Path(pack.path))
        model.read()
        if model.manifest.seal != pack.seal:
            raise StoreError(f"the model {pack.tag} was packed again: swap once more")
        if self._draining:
            model.admission.drain()
        return model

    async def _started_candidate(self, wanted: Wanted) -> LLM:
        """The model that is to take the other's place, loading or loaded. Raises what `_make` raises."""
        if self._candidate is None:
            self._candidate = self._make(wanted)
        if not self._candidate.started:
            await self._candidate.start()
        return self._candidate

    async def _begin(self, wanted: Wanted) -> None:
        """For the leader: whether it can be done, and whether beside the old one."""
        if self._serves(wanted):
            self._tell(wanted, "done")
            return
        try:
            candidate = self._candidate = self._make(wanted)
            check_names([*self._others(), candidate.names])
            # Before memory, which refuses nothing: where it is short, the old engine ends first, and only for a pack
            # that computes what it should.
            await asyncio.to_thread(candidate.check_proof)
        except BentoTRTLLMError as error:
            self._tell(wanted, "failed", str(error))
            return
        try:
            if self._settings.grpc_port:
                raise EngineError(f"only one of the two can listen at grpc_port {self._settings.grpc_port}")
            candidate.check_memory()
        except EngineError as error:
            self._tell(wanted, "pausing", str(error))
        else:
            self._tell(wanted, "loading")

    async def _pause(self, wanted: Wanted, leader: bool) -> None:
        """End the old engine first. New requests wait; those inside are answered."""
        if self._candidate and self._candidate.started:
            # It failed beside the old one, and is made anew, without that failure. Until it is gone, nobody waits.
            self._candidate.triton.resign()
            await self._candidate.stop()
            if not self._candidate.triton.is_gone():
                return
            self._candidate = None
        self._close(wanted)
        if not self.model.visitors and self.model.is_idle():
            self.model.triton.resign()
            # The owner last, or another worker would have to end it.
            if not self.model.triton.owner or not self.model.triton.is_used():
                await self.model.triton.stop()
        if leader and self.model.triton.is_gone():
            self._tell(wanted, "loading", ALONE)

    async def _load(self, wanted: Wanted, leader: bool, *, alone: bool) -> None:
        if wanted.serial == self._refused:
            return
        try:
            candidate = await self._started_candidate(wanted)
        except BentoTRTLLMError as error:
            self._refused = wanted.serial
            self._tell(wanted, "failed", str(error))
            return
        if not leader:
            return
        status = candidate.triton.status
        if status.failures or status.state == "failed":
            if not alone and await self._may_lack_room(candidate):
                reason = f"on the GPU the new engine did not start beside the old one: {status.reason.rstrip('.')}"
                self._tell(wanted, "pausing", reason)
            else:
                self._tell(wanted, "failed", status.reason)
        elif status.state == "ready":
            try:
                await candidate.prove()
            except BentoTRTLLMError as error:
                self._tell(wanted, "failed", f"it gives no answer: {error}")
            else:
                self._tell(wanted, "moving")

    async def _may_lack_room(self, candidate: LLM) -> bool:
        """Whether it may have failed for want of what the old engine has of a GPU's memory: only a try shows that."""
        old, new = (make_runtime(model.manifest) for model in (self.model, candidate))
        if not (old.gpu and new.gpu):
            return False
        try:
            await asyncio.to_thread(new.check_machine)
        except EngineError:  # what no room mends
            return False
        return True

    async def _move(self, wanted: Wanted, leader: bool) -> None:
        """Send new requests to the new engine; the old one ends when its last answer has."""
        if not self._serves(wanted):
            new, old = await self._started_candidate(wanted), self.model
            if new.not_ready():
                return
            new.triton.use()
            self.model, self._candidate = new, None
            old.triton.resign()
            self._retiring[old] = asyncio.create_task(self._retire(old))
        self._open.set()
        if leader and not self._retiring:
            self._tell(wanted, "done")

    async def _retire(self, old: LLM) -> None:
        """Returns when no worker is in it any more."""
        while old.visitors or not old.is_idle():
            await asyncio.sleep(STEP_S)
        while old.triton.owner and old.triton.is_used():
            await asyncio.sleep(STEP_S)
        await old.stop()
        while not old.triton.is_gone():
            await asyncio.sleep(STEP_S)
        del self._retiring[old]

    async def _go_back(self) -> None:
        """Serve on with the old model; after a pause, start it anew."""
        candidate, self._candidate = self._candidate, None
        if candidate:
            candidate.triton.resign()
            await candidate.stop()
        if not self._open.is_set() and self.model.leaving:
            old = self.model
            self.model = self._make(Pack(str(old.path), old.manifest.seal))
            await old.stop()
            self.model.triton.use()
            await self.model.start()
