"""Watches a Triton that is ready, until it ends, stands still or is not wanted any more."""

import asyncio
import time
from collections.abc import Callable

from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process.server import TritonServer

LATE_S = 0.1
"""The last question before the stall limit ends so long after it, and none is needed behind it."""


async def watch(
    server: TritonServer,
    settings: TritonSettings,
    *,
    suspected: Callable[[], bool],
    condemned: Callable[[], str | None],
) -> str:
    """Wait until Triton ends, or has not answered for stall_limit_s; returns what happened.

    `suspected` says whether any worker has suspected its engine since it was last asked; `condemned` why this Triton is
    to be started again, if it is.
    """
    limit_s, pause_s = settings.stall_limit_s, settings.health_interval_s
    answered, misses = time.monotonic(), 0
    suspected()  # of the last one
    ended = asyncio.create_task(server.wait())
    looking: asyncio.Task[bool] | None = None
    try:
        while not ended.done():
            asked = time.monotonic()
            rest_s = answered + limit_s - asked
            patience_s = max(limit_s / 4, rest_s + LATE_S) if misses else limit_s / 2
            question = asyncio.create_task(server.answers(patience_s))
            await asyncio.wait({ended, question}, return_when=asyncio.FIRST_COMPLETED)
            if question.cancel():
                continue
            if question.result():
                answered, misses = time.monotonic(), 0
                if reason := condemned():
                    return reason
                if looking and looking.done():
                    if looking.result():
                        return f"The engine did not answer for {limit_s:g} s."
                    looking = None
                if looking is None and suspected():
                    looking = asyncio.create_task(server.engine_stands_still())
            else:
                misses += 1
            # Two at least: after a pause of this very process, the first one says nothing about Triton.
            if misses > 1 and time.monotonic() - answered > limit_s:
                return f"Triton did not answer for {limit_s:g} s."
            waited_s = time.monotonic() - asked if misses else 0
            await asyncio.wait({ended}, timeout=max(0, pause_s - waited_s))
        return server.why_ended()
    finally:
        ended.cancel()
        if looking:
            looking.cancel()
