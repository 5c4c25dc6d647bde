"""What stands before the routes speaks ASGI: its types, and an error as a whole response."""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bento_trtllm.api.errors import APIError
from bento_trtllm.api.openai import errors as openai

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


async def respond(send: Send, error: APIError, path: str) -> None:
    """Send an error as a whole response, in the form that the path's clients read."""
    content = openai.body(error) if path.startswith("/v1/") else error.body()
    body = json.dumps(content).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
