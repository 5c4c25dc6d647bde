"""ASGI middleware: each request has one model until its last byte, whatever is swapped meanwhile."""

from typing import Any

from bento_trtllm.api.asgi import App, Receive, Scope, Send
from bento_trtllm.api.bodies import DECODED
from bento_trtllm.api.routing import ALL_SERVED, SERVED


class Visits:
    """Behind DecodedBodies, whose word it takes for what a request names.

    `state.serving`, set before the first request, is the worker's Serving.
    """

    def __init__(self, app: App, *, state: Any) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Probes, metrics and lists are answered during a pause, too.
        serving, body = self._state.serving, scope.get(DECODED)
        name = body.get("model") if isinstance(body, dict) else None
        async with serving.visit(name, patient=scope["method"] == "POST") as model:
            scope[SERVED], scope[ALL_SERVED] = model, serving.models
            await self._app(scope, receive, send)
