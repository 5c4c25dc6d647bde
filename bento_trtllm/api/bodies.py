"""All JSON that clients send is decoded here, before any route reads it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bento_trtllm.api import census, json_body, sse
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send, respond
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.threads import in_thread
from bento_trtllm.metrics import routes

Check = Callable[[Any], Any]
"""A body as it is to be read. Raises APIError for one that cannot be taken."""

DECODED = "bento_trtllm.json"
"""Where a request's scope holds its body, decoded."""


class DecodedBodies:
    """ASGI middleware, behind the Guard, which bounds a body. One that cannot be taken ends here, with a 400.

    BentoML's own parser reads the body of /generate again, when it has passed this one and a check.
    """

    def __init__(self, app: App, *, checks: Mapping[str, Check] | None = None) -> None:
        """`checks` say, by path, what a body becomes where the route behind does not check it as we do."""
        self._app = app
        self._checks = checks or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in routes.JSON:
            await self._app(scope, receive, send)
            return
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has left, and the Guard ends this
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(chunks).removeprefix(json_body.BOM)
        if body:  # without one, /generate has a default for every field, and /v1 says what is missing
            try:
                if len(body) <= census.SMALL:
                    decoded = json_body.read(body)
                else:
                    decoded = await in_thread(partial(_read_large, body))
                if check := self._checks.get(scope["path"]):
                    checked = check(decoded)
                    if checked is not decoded:
                        decoded, body = checked, sse.json_text(checked).encode()
            except APIError as error:
                await respond(send, error)
                return
            scope[DECODED] = decoded
        await self._app(scope, _Replay(body, receive), send)


def _read_large(body: bytes) -> Any:
    census.check(body)
    return json_body.read(body)


class _Replay:
    """An ASGI receive that gives a body that was read already, and then whatever follows."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
