"""BentoML's count of requests, by names of paths that are a few.

BentoML labels several families with the path as it was sent, before any key is looked at
(bentoml/_internal/server/http/instruments.py).
"""

from typing import Any

from bentoml._internal.server.http import instruments

from bento_trtllm.metrics.routes import label

SENT = "bento_trtllm.path"


class RouteMetrics(instruments.RunnerTrafficMetricsMiddleware):
    """BentoML's counting of requests, which sees the name of a path in its place; what is behind it sees the path."""

    def __init__(self, app: Any, *args: Any, **options: Any) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            if SENT in scope:
                scope = {**scope, "path": scope[SENT]}
                del scope[SENT]
            await app(scope, receive, send)

        super().__init__(serve, *args, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] == "http":
            path = scope["path"]
            scope = {**scope, "path": label(path), SENT: path}
        await super().__call__(scope, receive, send)


def install() -> None:
    """Have BentoML take it. Before the application is made, which is when the service has been imported."""
    instruments.RunnerTrafficMetricsMiddleware = RouteMetrics  # type: ignore[misc]
