"""The answers of one request side by side, and their way to the client."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bento_trtllm.api import sse
from bento_trtllm.api.errors import describe
from bento_trtllm.api.openai import errors, responses
from bento_trtllm.generation.generator import Finish, Sampling, TextStreams
from bento_trtllm.generation.output import Piece

Event = tuple[int, Piece | Finish]


@dataclass(frozen=True)
class Question:
    """One prompt, for one choice."""

    input_ids: list[int]
    max_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class Head:
    """What all events of a response begin with."""

    id: str
    model: str
    system_fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))


def new_id(prefix: str) -> str:
    """An id for a response."""
    return f"{prefix}-{secrets.token_hex(12)}"


def repeat(question: Question, n: int) -> list[Question]:
    """The same question for n choices; a seed makes them different, and each as it would be with its own seed."""
    seed = question.sampling.seed
    if seed is None:
        return [question] * n
    return [replace(question, sampling=replace(question.sampling, seed=(seed + i) % 2**64)) for i in range(n)]


async def answer(streams: TextStreams, questions: Sequence[Question]) -> AsyncGenerator[Event, None]:
    """The pieces of all answers as they come, each with the number of its choice."""
    if len(questions) == 1:
        (question,) = questions
        async with aclosing(streams.stream(question.input_ids, question.max_tokens, question.sampling)) as pieces:
            async for piece in pieces:
                yield 0, piece
        return
    queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

    async def run(i: int, question: Question) -> None:
        try:
            async with aclosing(answer(streams, [question])) as events:
                async for _, piece in events:
                    queue.put_nowait((i, piece))
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(run(i, question)) for i, question in enumerate(questions)]
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


class UsageCounter:
    """Tokens of a request: each prompt once, each answer as it ends. `complete` says that all have."""

    def __init__(self, prompt_tokens: int, answers: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._missing = answers

    @property
    def complete(self) -> bool:
        return not self._missing

    def add(self, finish: Finish) -> None:
        """An answer is complete."""
        self._completion_tokens += finish.usage.completion_tokens
        self._missing -= 1

    def usage(self) -> responses.Usage:
        """The counts so far."""
        total = self._prompt_tokens + self._completion_tokens
        return responses.Usage(
            prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens, total_tokens=total
        )


async def event_stream(chunks: AsyncGenerator[list[responses.Response], None]) -> Response:
    """A response of server-sent events, those of a list sent together. Raises what goes wrong before the first of them.

    After that an error is an event of its own, the last, without [DONE]: OpenAI's clients raise it.
    """
    frames = _frames(chunks)
    try:
        first = await anext(frames)
    except BaseException:
        await frames.aclose()
        raise
    return EventStream(first, frames)


async def _frames(chunks: AsyncGenerator[list[responses.Response], None]) -> AsyncGenerator[str, None]:
    started = False
    try:
        async with aclosing(chunks):
            async for group in chunks:
                yield "".join(f"data: {chunk.dump()}\n\n" for chunk in group)
                started = True
    except Exception as error:
        if not started:
            raise
        yield sse.data(errors.body(describe(error)))
        return
    yield sse.DONE


class EventStream(Response):
    """Sends frames, and closes their source in any case. Starlette's StreamingResponse leaves that to chance."""

    def __init__(self, first: str, frames: AsyncGenerator[str, None]) -> None:
        super().__init__(
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"}, media_type="text/event-stream"
        )
        del self.headers["content-length"]
        self._first = first
        self._rest = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for frame in self._frames():
                await send({"type": "http.response.body", "body": frame.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _frames(self) -> AsyncIterator[str]:
        yield self._first
        async for frame in self._rest:
            yield frame
