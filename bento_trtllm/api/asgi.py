"""What stands in front of the routes speaks ASGI: its types, and an error as a whole response."""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bento_trtllm.api.errors import APIError

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


async def respond(send: Send, error: APIError) -> None:
    """Send an error as a whole response."""
    body = json.dumps(error.body()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
