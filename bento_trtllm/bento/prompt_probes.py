"""Kubernetes' probes, answered as soon as they are read.

On its way through BentoML a request waits for the event loop half a dozen times, each time behind whatever else is to
be done: on a full core that is most of what a probe takes. Only yes is answered here, and by the event loop, so that
one that stands still is not ready; no, with its reason, and what else a request may want, is left to BentoML.
"""

from collections.abc import Callable
from typing import Any

from bento_trtllm.api import request_id
from bento_trtllm.api.asgi import App, Receive, Scope, Send

ALIVE, READY = ("/livez", "/healthz"), "/readyz"
FURTHER = {b"content-length", b"transfer-encoding", b"expect", b"origin"}
"""Headers of requests that are not plain probes."""


class PromptProbes:
    """`not_ready` tells why the service is not ready, or None."""

    def __init__(self, not_ready: Callable[[], str | None]) -> None:
        self._not_ready = not_ready

    def app(self, scope: Any) -> App | None:
        """What answers a request without ever waiting; None for one that is not answered here."""
        path = scope["path"]
        if scope["method"] != "GET" or not (path in ALIVE or path == READY):
            return None
        if any(name in FURTHER for name, _ in scope["headers"]) or (path == READY and self._not_ready()):
            return None
        return _yes


async def _yes(scope: Scope, receive: Receive, send: Send) -> None:
    """As BentoML's own answer."""
    headers = [
        (b"content-length", b"1"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (request_id.HEADER, request_id.given(scope["headers"]).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"\n"})
