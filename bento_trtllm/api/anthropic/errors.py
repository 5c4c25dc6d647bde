"""Anthropic's error object, which their clients read on every route of theirs, whoever refuses."""

import json
from typing import Any

from bento_trtllm.api import request_id, sse
from bento_trtllm.api.anthropic.objects import ErrorDetail, ErrorObject
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send
from bento_trtllm.api.errors import APIError

PATH = "/v1/messages"
# Their names by status (docs, "Errors"); other statuses below 500 are invalid_request_error, from 500 on api_error.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_object(status: int, message: str) -> ErrorObject:
    """An error of a status."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return ErrorObject(error=ErrorDetail(type=kind, message=message), request_id=request_id.CURRENT.get() or None)


def late_error(status: int, error: dict[str, Any]) -> str:
    """An error of a stream whose response began before it."""
    return sse.event("error", error_object(status, error["message"]).dump())


def describe(error: APIError) -> ErrorObject:
    """An error of ours."""
    return error_object(error.status, error.message)


class AnthropicErrors:
    """ASGI middleware: errors of these routes, which are OpenAI's object, in their form.

    It stands around the routes, and around all that refuses before them.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] == PATH or scope["path"].startswith(f"{PATH}/")):
            send = _Translator(send).send
        await self._app(scope, receive, send)


class _Translator:
    """An application's send."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Pass a message on; an error once it is whole."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = _translated(self._start["status"], self._body)
        headers = [(name, value) for name, value in self._start["headers"] if name.lower() not in REWRITTEN]
        headers += [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
        await self._send({**self._start, "headers": headers})
        await self._send({**message, "body": body})


JSON = b"application/json"
REWRITTEN = (b"content-type", b"content-length")


def _translated(status: int, body: bytes) -> bytes:
    try:
        content: Any = json.loads(body)
    except ValueError:
        content = None
    error = content.get("error") if isinstance(content, dict) and content.get("type") != "error" else None
    # Else it is in this form already, or will be OpenAI's object further out (api/envelope.py).
    return error_object(status, str(error.get("message", ""))).dump().encode() if isinstance(error, dict) else body
