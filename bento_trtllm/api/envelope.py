"""What every response has, whoever made it: the request's id and, for an error, one form."""

import json
from typing import Any

from bento_trtllm.api import request_id
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send, respond
from bento_trtllm.api.errors import APIError, failed

JSON = b"application/json"


class Envelope:
    """ASGI middleware, before all others of ours.

    BentoML, Starlette and FastAPI have errors of their own, as text or as JSON of other forms: each becomes OpenAI's
    object. One that is marked as an error already, in a form that its route's clients read, stays as it is.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = request_id.given(scope["headers"])
        request_id.CURRENT.set(name)
        await self._app(scope, receive, _Sender(scope, send, name.encode()).send)


class _Sender:
    """An application's send."""

    def __init__(self, scope: Scope, send: Send, name: bytes) -> None:
        self._scope = scope
        self._send = send
        self._name = name
        self._error: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Pass a message on; an error once it is whole."""
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (request_id.HEADER, self._name)]
            message = {**message, "headers": headers}
            if message["status"] >= 400:
                self._error = message
                return
        elif self._error is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._end(self._error)
            return
        await self._send(message)

    async def _end(self, start: Message) -> None:
        content = _json(start, self._body)
        if isinstance(content, dict) and isinstance(content.get("error"), dict):
            await self._send(start)
            await self._send({"type": "http.response.body", "body": self._body})
            return
        kept = {name: value for name, value in start["headers"] if name not in (b"content-type", b"content-length")}
        error = _foreign(self._scope, start["status"], kept, _words(content, self._body))
        error.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in kept.items()}
        await respond(self._send, error)


def _json(start: Message, body: bytes) -> Any:
    kind = next((value for name, value in start["headers"] if name == b"content-type"), b"")
    if not kind.startswith(JSON):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def _words(content: Any, body: bytes) -> str:
    """What somebody else's error says."""
    if isinstance(content, list) and content:
        content = content[0]  # BentoML's
    if isinstance(content, dict):
        content = content.get("error", content.get("detail"))
    words = content if isinstance(content, str) else "" if content is not None else body.decode("utf-8", "replace")
    words = " ".join(words.split())
    return words if words.endswith(".") or not words else f"{words}."


def _foreign(scope: Scope, status: int, headers: dict[bytes, bytes], words: str) -> APIError:
    url = f"{scope['method']} {scope['path']}"
    if status == 404:
        return APIError(404, "unknown_url", f"Invalid URL ({url}).")
    if status == 405:
        allowed = headers.get(b"allow", b"another method").decode("latin-1")
        return APIError(405, "method_not_allowed", f"{url} is not allowed: this path takes {allowed}.")
    if status == 503:
        return APIError(503, "engine_unavailable", words)
    if status >= 500:
        return failed(status)
    return APIError(status, "invalid_request", words or "The request cannot be served as it is.")
