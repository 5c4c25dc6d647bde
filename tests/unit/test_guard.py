"""A request whose client leaves while it is answered."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

from starlette.responses import StreamingResponse

from bento_trtllm.api.access import Access
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send
from bento_trtllm.api.browsers import Browsers
from bento_trtllm.api.guard import Guard
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from tests.support.limits import LIMIT_S

SCOPE: Scope = {
    **{"type": "http", "method": "POST", "path": "/generate", "asgi": {"spec_version": "2.3"}},
    "headers": [(b"content-type", b"application/json")],
}


class Held:
    """Something that a request has."""


async def leave(app: App) -> None:
    """Ask what is behind a guard, and leave after the first piece of the answer."""
    guard = Guard(app, access=Access(Keyring([], None), Ledger(1)), max_body_bytes=100, browsers=Browsers([], []))
    bodies, sent = iter([{"type": "http.request"}]), asyncio.Event()

    async def receive() -> Message:
        for body in bodies:
            return body
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sent.set()

    await asyncio.wait_for(guard(SCOPE, receive, send), LIMIT_S)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_it_had_does_not_wait_for_the_garbage_collector() -> None:
    had: list[weakref.ref[Held]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held = Held()
        had.append(weakref.ref(held))
        await receive()

        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.sleep(LIMIT_S)
            yield repr(held).encode()

        await StreamingResponse(body())(scope, receive, cast(Any, send))

    gc.disable()
    try:
        await leave(app)
        assert [each() for each in had] == [None]
    finally:
        gc.enable()
