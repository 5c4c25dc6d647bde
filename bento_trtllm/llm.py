"""A pack being served: its tokenizer, the Triton that runs it, and streams of text from both."""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bento_trtllm.api import overview
from bento_trtllm.api.dialogue.thoughts import CLOSE, MARKS
from bento_trtllm.api.tools.formats import choose
from bento_trtllm.api.variants import told, variants
from bento_trtllm.bento import tracing
from bento_trtllm.bento.home import home
from bento_trtllm.bento.pinned import open_pinned, pinned_proof, verify
from bento_trtllm.checks import PROOFS
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.errors import EngineError, StoreError, TritonError
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.manifest import FILE as MANIFEST
from bento_trtllm.manifest import tag_of
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.text.templates import Templates
from bento_trtllm.text.text import Text
from bento_trtllm.triton.process.door import Door
from bento_trtllm.triton.process.log import MODEL_NAME
from bento_trtllm.triton.process.repository import engine_config, place_repository, read_parameters
from bento_trtllm.triton.process.run_folder import RunFolder, Status
from bento_trtllm.triton.process.shared_slots import SharedSlots
from bento_trtllm.triton.process.supervisor import Supervisor
from bento_trtllm.triton.wire.failures import Failures
from bento_trtllm.triton_models.shared.parameters import STOP_IDS

if TYPE_CHECKING:
    from bento_trtllm.triton.wire.client import TritonClient


class LLM:
    """One per pack and worker; it takes no request before `read`.

    Raises StoreError or CheckpointError for a pack that cannot be served, and EngineError for settings that it must not
    have.
    """

    kind = "models"

    def __init__(self, packed: Path, settings: Settings, telemetry: Telemetry, beside: Sequence[str] = ()) -> None:
        """`beside` are the engines of the other models in the service."""
        self.path = packed
        # The layout of BentoML's model store is NAME/VERSION.
        self.name = packed.parent.name
        self.tag = tag_of(packed)
        self.manifest = open_pinned(packed)
        self.proof = pinned_proof(packed) or self.manifest.proof
        self.created = int((packed / MANIFEST).stat().st_mtime)
        templates = Templates.read(packed / "tokenizer").sources.values()
        self.tool_format = choose(settings.tool_format, templates)
        self.thinks = any(CLOSE in source for source in templates)
        running, waiting = settings.max_running_requests, settings.max_waiting_requests
        self._slots = SharedSlots(running, waiting, settings.workers) if settings.workers > 1 else None
        self.admission = Admission(self._slots or OwnSlots(running), waiting)
        self._deadlines = Deadlines(
            settings.first_token_timeout_s, settings.between_tokens_timeout_s, settings.request_timeout_s
        )
        self.started = False
        self.leaving = ""
        """Why it answers no more, as a sentence, if it does not."""
        self.visitors = 0
        """Requests that are served with this model, from their first byte to the last of their answer."""
        self._telemetry = telemetry
        self._door = Door.of(settings)
        self._runtime = make_runtime(self.manifest)
        config = engine_config(packed)
        inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (config.input, config.output))
        self._outputs = (*self._runtime.requested, *(name for name in self._runtime.told if name in outputs))
        self._stops = STOP_IDS in inputs
        self._parameters = self._runtime.parameters(settings, read_parameters(config), beside)
        self._engines = 1 + len(beside)
        self._profile = EngineProfile(
            self.manifest.vocab_size,
            self.manifest.context_length,
            tuple(self.manifest.eos_ids),
            self._runtime.longest_prompt(self._parameters),
            guided="guided_decoding_guide" in inputs,
            bans_first_end_only=self._runtime.bans_first_end_only,
        )
        self._client: TritonClient | None = None
        self._generation = 0
        self._closing: asyncio.Future[None] | None = None
        self._stopping: asyncio.Future[None] | None = None
        self.triton = Supervisor(
            self._place,
            settings,
            gpu=self._runtime.gpu,
            launcher=self._runtime.launcher,
            verify=self._verify,
            joined=self._slots.open if self._slots else lambda folder: None,
            folder=RunFolder.of_this_service(f"{settings.model_dump_json()} {packed}"),
        )
        self.triton.subscribe(self._follow)
        self._failure_limit = settings.engine_errors_before_restart

    def read(self) -> None:
        """Read what requests need of the tokenizer, once and before there are any: half a second of 128,000 tokens.

        Raises CheckpointError.
        """
        shown = (*self.tool_format.marks, *(MARKS if self.thinks else ()))
        text = Text.read(self.path / "tokenizer", self.manifest.context_length, self.manifest.eos_ids, shown)
        self.tokenizer, self.template, self.defaults = text.tokenizer, text.template, text.defaults
        generator = partial(
            Generator,
            self._profile,
            self.tokenizer,
            admission=self.admission,
            deadlines=self._deadlines,
            observer=self._telemetry.of(self.name, self.admission),
        )
        self.generator = generator(self.client)
        self.variants = variants(self, self.path, generator, self.client)

    def _place(self, folder: Path) -> Path:
        """The repository for one start of Triton. Raises TritonError for an engine that cannot run here."""
        try:
            self._runtime.check_machine()
        except EngineError as error:
            raise TritonError(str(error)) from error
        parameters = self._runtime.share(self._parameters, self._engines)
        return place_repository(self.path, folder, parameters, text=self._door.open)

    def _verify(self) -> None:
        """Raise TritonError if the pack is not, or no longer, the one whose tokenizer this worker uses."""
        try:
            verify(self.path, self.manifest)
        except StoreError as error:
            raise TritonError(str(error)) from error

    def check_memory(self) -> None:
        """Raise EngineError, in one sentence, if there is no memory for it beside what runs already."""
        self._runtime.check_room(self._parameters)

    def check_proof(self) -> None:
        """Raise EngineError, in one sentence, if the engine computes something else here than where it was packed."""
        self.proof = self._runtime.prove(self.path, self._parameters, home() / PROOFS) or self.manifest.proof

    async def start(self) -> None:
        """Launch Triton, or join the one that another worker launched; does not wait for it."""
        self.started = True
        told = MODEL_NAME.set(self.name if self._engines > 1 else "")
        try:
            await self.triton.start()
        finally:
            MODEL_NAME.reset(told)

    async def prove(self) -> None:
        """Have the engine answer with a few tokens, which no metric counts. Raises GenerationError if it does not."""
        generator = Generator(self._profile, self.tokenizer, self.client, Admission(OwnSlots(1), 0), self._deadlines)
        request = GenerationRequest(self.tokenizer.encode("Hello"), 4, Sampling())
        async for _ in generator.stream(request):
            pass

    async def stop(self) -> None:
        """Close the channel, and with the last worker, end Triton. Goes on if whoever waits for it is cancelled."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await self.triton.stop()
        if self._slots:
            self._slots.close()
        if self._closing:
            await self._closing
        self._telemetry.forget(self.admission)
        await asyncio.to_thread(tracing.flush)

    def is_idle(self) -> bool:
        """Whether no stream is open or waits in this worker."""
        return not self.admission.running and not self.admission.waiting

    def is_done(self) -> bool:
        """Whether none is, here or in another worker."""
        return self.is_idle() and self.triton.all_answered()

    def cut(self, reason: str) -> None:
        """End all streams with an error."""
        self.admission.dissolve()
        if self._client:
            self._client.cut(reason)

    def not_ready(self) -> str | None:
        """Why no requests are accepted, as a sentence; None if they are."""
        if self.admission.draining:
            return "The server is stopping."
        if self.leaving:
            return self.leaving
        self.triton.look()
        if self._client is None:
            return f"The engine of {self.name} is not ready ({self.triton.state}): {self.triton.reason}"
        return None

    @property
    def names(self) -> list[str]:
        """What requests may call it and its variants; its own is the first."""
        return [self.name, *self.variants]

    def told(self) -> str:
        """What /metrics says of it besides what its engine tells."""
        return told(self, ready=self.triton.status.state == "ready")

    def seen(self) -> overview.Seen:
        """How it is, as this worker knows it."""
        status = self.triton.status
        engine = overview.EngineState(**{name: getattr(status, name) for name in overview.EngineState.model_fields})
        processes = dict(self._slots.workers()) if self._slots else {0: os.getpid()}
        return overview.Seen(self.tag, self.admission.limit, processes, self.admission.standings(), engine)

    def client(self) -> "TritonClient":
        """The channel to the current Triton. Raises EngineUnavailable if there is none."""
        if self._client is None:
            self.triton.look()
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

    def _connect(self, address: str, generation: int) -> "TritonClient":
        # Imported late, as in triton/wire/probe.py, which has imported gRPC by now.
        from bento_trtllm.triton.wire.client import TritonClient  # noqa: PLC0415

        names, outputs = self._runtime.renamed, self._outputs
        # A channel belongs to one Triton: failures on it say nothing about the next.
        failures = Failures(self._failure_limit, partial(self.triton.condemn, generation))
        supervisor, metadata = self.triton, self._door.metadata
        elsewhere = self._slots.running_elsewhere if self._slots else lambda: 0
        return TritonClient(
            address,
            names,
            outputs,
            supervisor.suspect,
            supervisor.occupy,
            failures,
            metadata,
            elsewhere,
            stops=self._stops,
        )
