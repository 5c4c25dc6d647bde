"""What one worker serves: its models, each in a seat of its own, and what they have in common."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

from bento_trtllm.api import overview, request_id
from bento_trtllm.api.model import not_ready, position
from bento_trtllm.bento import tracing
from bento_trtllm.bento.shutdown import Drain
from bento_trtllm.config import Settings
from bento_trtllm.errors import CheckpointError
from bento_trtllm.generation.client import Client
from bento_trtllm.generation.errors import QueueFull
from bento_trtllm.keys.audit import AuditLog
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.llm import LLM
from bento_trtllm.manifest import Manifest
from bento_trtllm.metrics import key_metrics
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.swap.orders import Orders, Pack, mark
from bento_trtllm.swap.seat import STEP_S, Seat
from bento_trtllm.triton.process.run_folder import RunFolder

LOGGER = logging.getLogger("bento_trtllm")
FIRST_WAIT_S = 10
LAUNCH_S = 1.0
"""How long a tokenizer is not read for the sake of a Triton that is not there yet."""
LOOK_S = 0.25
"""How often a worker looks whether a swap is wanted."""
RETRY_S = 1.0


def engine_of(orders: Orders, first: Path) -> str:
    """The engine of the pack that a seat serves: what it was swapped to, or its first. Raises StoreError."""
    serving = orders.read(Pack)
    return Manifest.read(Path(serving.path) if serving else first).engine


class Serving:
    """Make it in a worker. Raises what LLM raises, for the packs that the service serves now."""

    def __init__(self, packs: Sequence[Path], settings: Settings, keyring: Keyring, ledger: Ledger) -> None:
        """Requests that name no model are for the first pack."""
        self._folder = RunFolder.of_this_service(f"service {settings.model_dump_json()}")
        self._keyring, self._ledger = keyring, ledger
        keyring.changed = lambda: ledger.keep(keyring.accountable())
        keyring.changed()
        audit = None
        if settings.audit_log:
            audit = AuditLog(settings.audit_log, settings.audit_log_max_bytes, settings.audit_log_files)
        of_keys = partial(key_metrics.exposition, keyring, ledger)
        several = len(packs) > 1
        self._telemetry = Telemetry(tracing.tracer(), audit, request_id.CURRENT.get, of_keys, several=several)
        self._names = [packed.parent.name for packed in packs] if several else []
        orders = [Orders.of(self._folder.path, name) for name in self._names or [""]]
        self._engines = [engine_of(each, packed) for each, packed in zip(orders, packs, strict=True)] if several else []
        """Of each seat's model, as far as there is none yet."""
        self._seats: list[Seat] = []
        for number, packed in enumerate(packs):
            make, others = partial(self._make, settings, number), partial(self._others, number)
            self._seats.append(Seat(packed, settings, make, orders[number], others))
        self._tasks: list[asyncio.Task[None]] = []
        self._drain = Drain(self._begin_drain, self._cut, self._is_done, settings.drain_timeout_s)

    @property
    def models(self) -> tuple[LLM, ...]:
        """Those that new requests are for, the first for those that name none."""
        return tuple(seat.model for seat in self._seats)

    async def launch(self) -> None:
        """Launch the Tritons, or join those that another worker launched. Does not fail if one of them does."""
        self._drain.listen()
        for seat in self._seats:
            await seat.start()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(model.triton.launched.wait() for model in self.models)), LAUNCH_S)

    async def start(self) -> None:
        """Read the tokenizers, and wait a while for the Tritons, which were launched.

        Raises CheckpointError, and then nothing is left of them.
        """
        try:
            for model in self.models:
                model.read()  # only now: the Tritons load meanwhile
        except CheckpointError:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._run(), name="swaps"),
            asyncio.create_task(self._keyring.watch(), name="keys"),
        ]
        # Early requests wait in the socket's queue for models that load quickly; otherwise they get a 503.
        waits = (seat.model.triton.wait_ready(FIRST_WAIT_S) for seat in self._seats if seat.is_open())
        await asyncio.gather(*waits, return_exceptions=True)

    async def stop(self) -> None:
        """End all that this worker started, and with the last worker, the Tritons."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(seat.stop() for seat in self._seats))
        self._ledger.close()
        self._folder.leave()

    def not_ready(self) -> str | None:
        """Why not every model answers requests now, as a sentence; None if all do."""
        return not_ready(self.models)

    def check_room(self, client: Client) -> None:
        """Raise QueueFull for a request that would find no place in line, whichever model it is for."""
        first, *others = self.models
        # Who is refused is told a time, which counts for those who are refused after it: in one line, not in each.
        if any(model.admission.has_room(client) for model in others):
            return
        try:
            first.admission.refuse_early(client)
        except QueueFull as error:
            self._telemetry.refused(error.kind)
            raise

    async def metrics(self, collected: str) -> str:
        """All metrics of the service, including those collected from its workers."""
        engines = {model.name: (model.triton.status, model.told()) for model in self.models}
        return await self._telemetry.exposition(collected, engines)

    def overview(self) -> overview.Overview:
        """How the service is, as this worker knows it."""
        at = asyncio.get_running_loop().time()
        return overview.make([model.seen() for model in self.models], self._keyring, self._ledger.accounts(), at)

    def visit(self, name: object, *, patient: bool) -> AbstractAsyncContextManager[LLM]:
        """The model for one request, by what it calls it, which does not end before the request does.

        Who is patient waits while another pack takes its place.
        """
        return self._seats[position(self.models, name)].visit(patient=patient)

    def _make(self, settings: Settings, number: int, packed: Path) -> LLM:
        """A model for a seat, beside those that the others have now: a swap may have brought another engine."""
        engines = [seat.model.manifest.engine for seat in self._seats] + self._engines[len(self._seats) :]
        beside = [engine for each, engine in enumerate(engines) if each != number]
        return LLM(packed, settings, self._telemetry, beside)

    def _others(self, number: int) -> list[Sequence[str]]:
        """The names of all models but that of one seat."""
        return [seat.model.names for each, seat in enumerate(self._seats) if each != number]

    def _models(self) -> list[LLM]:
        return [model for seat in self._seats for model in seat.models()]

    def _begin_drain(self) -> None:
        for seat in self._seats:
            seat.drain()

    def _cut(self) -> None:
        for model in self._models():
            model.cut("The server is stopping.")

    def _is_done(self) -> bool:
        return all(model.is_done() for model in self._models())

    async def _run(self) -> None:
        while True:
            try:
                self._folder.join()
                self._ledger.open(self._folder.path)
                for seat in self._seats:
                    seat.remember()
                mark(self._folder.path, self._names)
                while True:
                    leader = self._folder.take()
                    busy = [await seat.step(leader) for seat in self._seats]
                    await asyncio.sleep(STEP_S if any(busy) else LOOK_S)
            except OSError as error:  # a full disk, say: the service goes on without swaps
                LOGGER.error("the service cannot use its folder: %s (tried again in %g s)", error, RETRY_S)
            except Exception:  # a bug: nothing that a service may die of
                LOGGER.exception("a swap has failed, and is tried again")
            await asyncio.sleep(RETRY_S)
