"""A pack being served: its tokenizer, the Triton that runs it, and streams of text from both."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from bento_trtllm.api import admin, request_id
from bento_trtllm.api.adapters import adapt
from bento_trtllm.api.dialogue.thoughts import CLOSE, MARKS
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.tools.formats import choose
from bento_trtllm.bento import tracing
from bento_trtllm.bento.home import home
from bento_trtllm.bento.pinned import open_pinned, pin, pin_proof, pinned_proof, verify
from bento_trtllm.bento.shutdown import Drain
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.errors import EngineError, StoreError, TritonError
from bento_trtllm.generation.adapted import Adapted
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.client import Client
from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.errors import EngineUnavailable, LineFull
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.keys.audit import AuditLog
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.manifest import FILE as MANIFEST
from bento_trtllm.metrics import key_metrics
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.text.templates import Templates
from bento_trtllm.text.text import Text
from bento_trtllm.triton.process.door import Door
from bento_trtllm.triton.process.repository import engine_config, place_repository, read_parameters
from bento_trtllm.triton.process.run_folder import Status
from bento_trtllm.triton.process.shared_slots import SharedSlots
from bento_trtllm.triton.process.supervisor import Supervisor
from bento_trtllm.triton.wire.client import TritonClient
from bento_trtllm.triton.wire.failures import Failures
from bento_trtllm.triton_models.shared.adapters import Adapters

FIRST_WAIT_S = 10
PROOFS = "proofs"
"""Beside the store: what packs have shown of themselves on other machines than those that packed them."""


def check(packed: Path, settings: Settings) -> None:
    """What can be checked for all workers before there is one; this also pins the pack.

    Raises StoreError, EngineError for settings it must not have, or a machine that is too small or computes something
    else, or TritonError where grpc_port is taken.
    """
    Door.of(settings).check()
    runtime = make_runtime(pin(packed))
    parameters = runtime.parameters(settings, read_parameters(engine_config(packed)))
    runtime.check_room(parameters)
    pin_proof(runtime.prove(packed, parameters, home() / PROOFS))


class LLM:
    """One per worker. Raises StoreError or CheckpointError for a pack that cannot be served."""

    def __init__(self, packed: Path, settings: Settings, keyring: Keyring, ledger: Ledger) -> None:
        # The layout of BentoML's model store is NAME/VERSION.
        self.name = packed.parent.name
        self.tag = f"{self.name}:{packed.name}"
        self.manifest = open_pinned(packed)
        self.proof = pinned_proof() or self.manifest.proof
        self.created = int((packed / MANIFEST).stat().st_mtime)
        files = packed / "tokenizer"
        templates = Templates.read(files).sources.values()
        self.tool_format = choose(settings.tool_format, templates)
        self.thinks = any(CLOSE in source for source in templates)
        shown = (*self.tool_format.marks, *(MARKS if self.thinks else ()))
        text = Text.read(files, self.manifest.context_length, self.manifest.eos_ids, shown)
        self.tokenizer, self.template, self.defaults = text.tokenizer, text.template, text.defaults
        running, waiting = settings.max_running_requests, settings.max_waiting_requests
        self._slots = SharedSlots(running, waiting, settings.workers) if settings.workers > 1 else None
        self.admission = Admission(self._slots or OwnSlots(running), waiting)
        deadlines = Deadlines(
            settings.first_token_timeout_s, settings.between_tokens_timeout_s, settings.request_timeout_s
        )
        self._keyring, self._ledger = keyring, ledger
        keyring.changed = lambda: ledger.keep(keyring.accountable())
        keyring.changed()
        self._watching: asyncio.Task[None] | None = None
        self._audit = None
        if settings.audit_log:
            self._audit = AuditLog(settings.audit_log, settings.audit_log_max_bytes, settings.audit_log_files)
        self.telemetry = Telemetry(
            self.admission,
            self.name,
            tracing.tracer(),
            self._audit,
            request_id.CURRENT.get,
            partial(key_metrics.exposition, keyring, ledger),
        )
        self._door = Door.of(settings)
        self._runtime = make_runtime(self.manifest)
        config = engine_config(packed)
        inputs = {tensor.name for tensor in config.input}
        self._parameters = self._runtime.parameters(settings, read_parameters(config))
        profile = EngineProfile(
            self.manifest.vocab_size,
            self.manifest.context_length,
            tuple(self.manifest.eos_ids),
            self._runtime.longest_prompt(self._parameters),
            guided="guided_decoding_guide" in inputs,
            bans_first_end_only=self._runtime.bans_first_end_only,
        )
        generator = partial(
            Generator, profile, self.tokenizer, admission=self.admission, deadlines=deadlines, observer=self.telemetry
        )
        self.generator = generator(self.client)
        self.adapters: Mapping[str, ServedModel] = {
            name: adapt(self, name, generator(partial(Adapted, self.client, number)))
            for name, number in Adapters.read(packed / "engine").numbers.items()
        }
        self._client: TritonClient | None = None
        self._generation = 0
        self._closing: asyncio.Future[None] | None = None
        self._packed = packed
        self._supervisor = Supervisor(
            self._place,
            settings,
            gpu=self._runtime.gpu,
            launcher=self._runtime.launcher,
            verify=self._verify,
            joined=self._join,
        )
        self._supervisor.subscribe(self._follow)
        self._failure_limit = settings.engine_errors_before_restart
        self._drain = Drain(self.admission.drain, self._cut, self._is_done, settings.drain_timeout_s)

    def _join(self, folder: Path) -> None:
        """Share what workers share in the run folder. Raises OSError."""
        if self._slots:
            self._slots.open(folder)
        self._ledger.open(folder)

    def _place(self, folder: Path) -> Path:
        """The repository for one start of Triton. Raises TritonError for an engine that cannot run here."""
        try:
            self._runtime.check_machine()
        except EngineError as error:
            raise TritonError(str(error)) from error
        return place_repository(self._packed, folder, self._parameters, text=self._door.open)

    def _verify(self) -> None:
        """Raise TritonError if the pack is not, or no longer, the one whose tokenizer this worker uses."""
        try:
            verify(self._packed, self.manifest)
        except StoreError as error:
            raise TritonError(str(error)) from error

    async def start(self) -> None:
        """Launch Triton, or join the one that another worker launched. Does not fail if Triton does."""
        self._drain.listen()
        self._watching = asyncio.create_task(self._keyring.watch(), name="keys")
        await self._supervisor.start()
        # Early requests wait in the socket's queue for a model that loads quickly; otherwise they get a 503.
        with suppress(TritonError):
            await self._supervisor.wait_ready(FIRST_WAIT_S)

    async def stop(self) -> None:
        """Close the channel, and with the last worker, end Triton."""
        if self._watching:
            self._watching.cancel()
        await self._supervisor.stop()
        self._ledger.close()
        if self._slots:
            self._slots.close()
        if self._closing:
            await self._closing
        await asyncio.to_thread(tracing.flush)

    def _is_done(self) -> bool:
        """Whether no stream is open, here or in another worker."""
        return not self.admission.running and not self.admission.waiting and self._supervisor.all_answered()

    def _cut(self) -> None:
        self.admission.dissolve()
        if self._client:
            self._client.cut("The server is stopping.")

    def check_room(self, client: Client) -> None:
        """Raise LineFull for a request that would find no place in line."""
        try:
            self.admission.refuse_early(client)
        except LineFull as error:
            self.telemetry.refused(error.kind)
            raise

    def not_ready(self) -> str | None:
        """Why no requests are accepted, as a sentence; None if they are."""
        if self.admission.draining:
            return "The server is stopping."
        self._supervisor.look()
        if self._client is None:
            return f"The engine is not ready ({self._supervisor.state}): {self._supervisor.reason}"
        return None

    def overview(self) -> admin.Overview:
        """How the service is, as this worker knows it."""
        status = self._supervisor.status
        engine = admin.Engine(**{name: getattr(status, name) for name in admin.Engine.model_fields})
        processes = dict(self._slots.workers()) if self._slots else {0: os.getpid()}
        standings, accounts = self.admission.standings(), self._ledger.accounts()
        at = asyncio.get_running_loop().time()
        slots = self.admission.limit
        return admin.make(self.tag, slots, processes, standings, self._keyring, accounts, engine, at)

    async def metrics(self, collected: str) -> str:
        """All metrics of the service, including those collected from its workers."""
        return await self.telemetry.exposition(collected, self._supervisor.status)

    def client(self) -> TritonClient:
        """The channel to the current Triton. Raises EngineUnavailable if there is none."""
        if self._client is None:
            self._supervisor.look()
        if self._client is None:
            raise EngineUnavailable(str(self.not_ready()))
        return self._client

    def _follow(self, status: Status) -> None:
        """Triton has started or ended: a channel belongs to one Triton, whichever process may have its port next."""
        if self._client and status.address and status.generation == self._generation:
            return
        old, self._client = self._client, None
        if status.address:
            self._client = self._connect(status.address, status.generation)
        self._generation = status.generation
        if old:
            self._closing = asyncio.ensure_future(old.close(f"The engine stopped: {status.reason}"))

    def _connect(self, address: str, generation: int) -> TritonClient:
        names, outputs = self._runtime.renamed, self._runtime.requested
        # A channel belongs to one Triton: failures on it say nothing about the next.
        failures = Failures(self._failure_limit, partial(self._supervisor.condemn, generation))
        supervisor, metadata = self._supervisor, self._door.metadata
        elsewhere = self._slots.running_elsewhere if self._slots else lambda: 0
        return TritonClient(
            address, names, outputs, supervisor.suspect, supervisor.occupy, failures, metadata, elsewhere
        )
