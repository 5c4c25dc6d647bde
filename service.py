"""Llama 3 on NVIDIA Triton, as a BentoML service."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import bentoml
from annotated_types import Ge, Le, MaxLen
from starlette.exceptions import HTTPException

from bento_trtllm.api.threads import take_short_turns
from bento_trtllm.arguments import read_keys, read_settings
from bento_trtllm.bento import garbage, logs, metric_files, tracing, traffic, unneeded
from bento_trtllm.bento.arbiter import forward_signals, patch_arbiter
from bento_trtllm.bento.connections import allow_open_files, bound_connections
from bento_trtllm.bento.later import LaterApp, LaterMiddlewares, import_backend
from bento_trtllm.bento.pinned import kept_keys, pinned
from bento_trtllm.bento.privacy import keep_private
from bento_trtllm.bento.refusal import refusing, starting_worker
from bento_trtllm.bento.store import packed_model
from bento_trtllm.checks import check
from bento_trtllm.generation.parameters import MAX_TOP_K, Sampling
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.text.prompt import MAX_TOKENS, SYSTEM_PROMPT
from bento_trtllm.triton.wire.probe import GRPC_ENVIRONMENT

if TYPE_CHECKING:
    from bento_trtllm.swap.front import Front

if bentoml.server_context.worker_index is not None:
    keep_private()  # in a worker, now: BentoML creates the files of its metrics next
    unneeded.leave_out()
metric_files.reserve()
with refusing():
    settings = read_settings(vars(bentoml.use_arguments()))
    keyring = Keyring(read_keys(settings), settings.keys_file, kept_keys() if settings.keys_file else None)
    packs = [packed_model(tag) for tag in settings.tags]
tracing.install(settings)
traffic.install()
ledger = Ledger(settings.workers)


@cache
def front() -> "Front":
    """What answers requests; made in a worker, while engines load, since it takes imports of a quarter of a second."""
    from bento_trtllm.swap.front import Front  # noqa: PLC0415

    return Front(TRTLLM, settings, keyring, ledger)


@bentoml.service(
    name="bento-trtllm",
    workers=settings.workers,
    traffic={"timeout": settings.longest_request_s},
    envs=GRPC_ENVIRONMENT,
    # Where BentoCloud, and what reads Bentos, finds OpenAI's API.
    labels={"openai_endpoint": "/v1"},
)
class TRTLLM:
    # BentoML looks for them among the attributes, to put them into a Bento.
    locals().update({f"model_{number}": pack for number, pack in enumerate(packs)})

    def __init__(self) -> None:
        with starting_worker():
            from bento_trtllm.swap.serving import Serving  # noqa: PLC0415  the process of `bentoml serve` does without it

            served = pinned() or [Path(pack.resolve().path) for pack in packs]
            self.serving = Serving(served, settings, keyring, ledger)

    @bentoml.on_deployment
    @staticmethod
    def prepare() -> None:
        with refusing():
            check([Path(pack.resolve().path) for pack in packs], settings)
        patch_arbiter()
        forward_signals()
        garbage.leave_out()

    @bentoml.on_startup
    async def start(self) -> None:
        with starting_worker():
            logs.configure()
            allow_open_files()
            bound_connections(settings.write_timeout_s)
            await self.serving.launch()
            import_backend()
            front().serve(self.serving)
            # What answers is a part of what BentoML describes, and of its own lifespan.
            TRTLLM.mount_apps[:] = [(front().web, "/", None)]
            await self.serving.start()
            garbage.make_once(self, "generate")
            garbage.settle()
            take_short_turns()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await self.serving.stop()

    async def __is_ready__(self) -> bool:
        if reason := self.serving.not_ready():
            raise HTTPException(503, reason)
        return True

    async def __metrics__(self, collected: str) -> str:
        return await self.serving.metrics(collected)

    @bentoml.api
    async def generate(
        self,
        ctx: bentoml.Context,
        prompt: str = "Explain superconductors in plain English",
        system_prompt: str | None = SYSTEM_PROMPT,
        max_tokens: Annotated[int, Ge(1), Le(MAX_TOKENS)] = MAX_TOKENS,
        temperature: Annotated[float | None, Ge(0), Le(2)] = None,
        top_p: Annotated[float | None, Ge(0), Le(1)] = None,
        top_k: Annotated[int | None, Ge(1), Le(MAX_TOP_K)] = None,
        seed: Annotated[int | None, Ge(0), Le(2**64 - 1)] = None,
        stop: Annotated[list[str] | None, MaxLen(16)] = None,
        model: str | None = None,
    ) -> AsyncGenerator[str, None]:
        """Answer a prompt, as server-sent events or, without `Accept: text/event-stream`, as bare text."""
        sampling = Sampling(temperature, top_p, top_k, seed, tuple(stop or ()))
        system = SYSTEM_PROMPT if system_prompt is None else system_prompt
        async with aclosing(front().generate(ctx, prompt, system, max_tokens, sampling, model)) as body:
            async for chunk in body:
                yield chunk


TRTLLM.mount_apps.append((LaterApp(lambda: front().web), "/", None))
TRTLLM.middlewares.append((LaterMiddlewares, {"make": lambda: front().middlewares}))
if bentoml.server_context.worker_index is not None:
    from bento_trtllm.bento import protocol

    protocol.install(settings, lambda: front().serving.not_ready())  # noqa: PLW0108  there is none yet
