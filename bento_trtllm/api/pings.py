"""Signs of life on streams that are silent: proxies and clients take a connection without them for dead.

Each is a comment of server-sent events, which clients ignore (WHATWG HTML, 9.2.6). While a request is in the queue,
nothing says yet how it will go: after the first silence the response begins all the same, with status 200, and an error
from then on is an event.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from bento_trtllm.api import sse
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send
from bento_trtllm.api.bodies import DECODED

LateError = Callable[[int, dict[str, Any]], str]
"""The event for an error that has come too late for a status of its own, given that and OpenAI's object."""


class Pings:
    """ASGI middleware, behind DecodedBodies, which tells it what is a stream. 0 seconds: none."""

    def __init__(self, app: App, *, interval_s: float, late_errors: Mapping[str, LateError]) -> None:
        """`late_errors` are those of paths whose clients read another event than one of OpenAI's object."""
        self._app = app
        self._late_errors = late_errors
        self._interval_s = interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._interval_s or not _asks_for_stream(scope):
            await self._app(scope, receive, send)
            return
        stream = _Stream(send, self._interval_s, self._late_errors.get(scope["path"], _late_error))
        try:
            await self._app(scope, receive, stream.send)
        finally:
            await stream.close()


def _late_error(status: int, error: dict[str, Any]) -> str:
    return sse.error({"error": error})


def _asks_for_stream(scope: Scope) -> bool:
    body: Any = scope.get(DECODED)
    if isinstance(body, dict) and body.get("stream") is True:
        return True
    accept = next((value for name, value in scope.get("headers", ()) if name == b"accept"), b"")
    return body is not None and scope["path"] == "/generate" and sse.TYPE.encode() in accept


class _Stream:
    """An application's send, and a timer beside it."""

    def __init__(self, send: Send, interval_s: float, late_error: LateError) -> None:
        self._send = send
        self._interval_s = interval_s
        self._late_error = late_error
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(interval_s, self._ring)
        self._ping: asyncio.Task[None] | None = None
        self._sending = False
        self._started = False
        self._early = False
        self._status = 200
        self._error = b""

    async def send(self, message: Message) -> None:
        """Pass a message on, or what stands for it in a response that has begun already."""
        if self._ping and not self._ping.done():
            await asyncio.wait((self._ping,))
        self._sending = True
        try:
            if self._early:
                await self._continue(message)
            else:
                self._note(message)
                await self._send(message)
        finally:
            self._sending = False
            self._heard_at = self._loop.time()

    async def close(self) -> None:
        """The response is over."""
        self._stop()
        if self._ping and not self._ping.done():
            self._ping.cancel()
            await asyncio.wait((self._ping,))

    def _note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
            if not kind.startswith(sse.TYPE.encode()):
                self._stop()
        elif not message.get("more_body", False):
            self._stop()

    async def _continue(self, message: Message) -> None:
        """A message of a response whose beginning was sent: of a stream, or of an error that came too late."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        if self._status >= 400:
            self._error += message.get("body", b"")
            if message.get("more_body", False):
                return
            message = {**message, "body": self._late_error(self._status, json.loads(self._error)["error"]).encode()}
        if not message.get("more_body", False):
            self._stop()
        await self._send(message)

    def _ring(self) -> None:
        now = self._loop.time()
        due = self._heard_at + self._interval_s
        if due <= now:
            due = now + self._interval_s
            # While something is being sent, it is the client that is waited for.
            if not self._sending and not (self._ping and not self._ping.done()):
                self._ping = self._loop.create_task(self._say())
        self._timer = self._loop.call_at(due, self._ring)

    async def _say(self) -> None:
        if not self._started:
            self._started = self._early = True
            headers = {"content-type": sse.TYPE, **sse.HEADERS}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send({"type": "http.response.body", "body": sse.PING.encode(), "more_body": True})

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
