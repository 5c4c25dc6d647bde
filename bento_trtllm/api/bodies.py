"""All JSON that clients send is decoded here, before any route reads it."""

from functools import partial
from typing import Any

from bento_trtllm.api import census, json_body
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send, respond
from bento_trtllm.api.aside import aside
from bento_trtllm.api.errors import APIError
from bento_trtllm.metrics import routes

DECODED = "bento_trtllm.json"
"""The key of a request's scope under which its body is, decoded."""


class DecodedBodies:
    """ASGI middleware, behind the Guard, which bounds a body. One that cannot be taken ends here, with a 400.

    BentoML's own parser reads the body of /generate again, when it has passed this one.
    """

    def __init__(self, app: App) -> None:
        self._app = app

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
                    scope[DECODED] = json_body.read(body)
                else:
                    scope[DECODED] = await aside(partial(_read_large, body))
            except APIError as error:
                await respond(send, error, scope["path"])
                return
        await self._app(scope, _Replay(body, receive), send)


def _read_large(body: bytes) -> Any:
    census.check(body)
    return json_body.read(body)


class _Replay:
    """An ASGI receive that gives a body that was read already, and then what comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
