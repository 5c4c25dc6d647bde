"""A response of server-sent events, as OpenAI's clients read it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bento_trtllm.api import sse
from bento_trtllm.api.errors import describe
from bento_trtllm.api.openai import errors, responses


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
