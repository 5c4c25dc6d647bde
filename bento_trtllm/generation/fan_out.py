"""The answers of one request, generated concurrently."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.generation.results import Finish, TextDelta

ChoiceEvent = tuple[int, TextDelta | Finish]
"""An item of one answer's stream, with the answer's index."""


class Streamer(Protocol):
    """generator.Generator."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[TextDelta | Finish, None]:
        """One answer."""
        ...


def repeat(request: GenerationRequest, n: int) -> list[GenerationRequest]:
    """The same request for n answers; with a seed, answer i gets seed + i, and is what it would be alone with that."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * n
    return [replace(request, sampling=replace(request.sampling, seed=(seed + i) % 2**64)) for i in range(n)]


async def fan_out(generator: Streamer, requests: Sequence[GenerationRequest]) -> AsyncGenerator[ChoiceEvent, None]:
    """The items of all answers as they arrive, each with the index of its request.

    The first error ends all answers and is raised; closing the iterator ends them all, too. Either way, all have ended
    when this returns.
    """
    if len(requests) == 1:
        (request,) = requests
        async with aclosing(generator.stream(request)) as items:
            async for item in items:
                yield 0, item
        return
    queue: asyncio.Queue[ChoiceEvent | Exception | None] = asyncio.Queue()

    async def run(i: int, request: GenerationRequest) -> None:
        try:
            async with aclosing(generator.stream(request)) as items:
                async for item in items:
                    queue.put_nowait((i, item))
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(run(i, request)) for i, request in enumerate(requests)]
    try:
        left = len(tasks)
        while left:
            event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
