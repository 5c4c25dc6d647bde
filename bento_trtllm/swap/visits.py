"""ASGI middleware: each request has one model from its first byte to its last, whatever is swapped meanwhile."""

from typing import Any

from bento_trtllm.api.asgi import App, Receive, Scope, Send
from bento_trtllm.api.routing import MODEL


class Visits:
    """`state.serving`, set before the first request, is the worker's Serving."""

    def __init__(self, app: App, *, state: Any) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Probes, metrics and lists are answered during a pause, too.
        async with self._state.serving.visit(patient=scope["method"] == "POST") as model:
            scope[MODEL] = model
            await self._app(scope, receive, send)
