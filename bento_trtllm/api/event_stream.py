"""A response of server-sent events, whichever API frames them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bento_trtllm.api import sse
from bento_trtllm.api.errors import APIError, describe
from bento_trtllm.api.response_body import ResponseBody


class Framing(Protocol):
    """How an API writes events; `end` follows the last of them."""

    @property
    def end(self) -> str: ...

    def frame(self, item: ResponseBody) -> str:
        """One event."""
        ...

    def failure(self, error: APIError) -> str:
        """What ends a stream that failed."""
        ...


async def event_stream(chunks: AsyncGenerator[list[ResponseBody], None], framing: Framing) -> Response:
    """A response of server-sent events, those of a list sent together. Raises what goes wrong before the first of them.

    After that an error is an event.
    """
    frames = _frames(chunks, framing)
    try:
        first = await anext(frames)
    except BaseException:
        await frames.aclose()
        raise
    return EventStream(first, frames)


async def _frames(chunks: AsyncGenerator[list[ResponseBody], None], framing: Framing) -> AsyncGenerator[str, None]:
    started = False
    try:
        async with aclosing(chunks):
            async for group in chunks:
                yield "".join(map(framing.frame, group))
                started = True
    except Exception as error:
        if not started:
            raise
        yield framing.failure(describe(error))
        return
    if framing.end:
        yield framing.end


class EventStream(Response):
    """Sends frames, and closes their source in any case. Starlette's StreamingResponse leaves that to chance."""

    def __init__(self, first: str, frames: AsyncGenerator[str, None]) -> None:
        super().__init__(headers=sse.HEADERS, media_type=sse.TYPE)
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
