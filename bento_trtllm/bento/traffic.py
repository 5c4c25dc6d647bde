"""BentoML's count of requests, by names of paths that are a few; and its time limit, which is none here.

BentoML labels several families with the path as it was sent, before any key is looked at
(bentoml/_internal/server/http/instruments.py).
"""

from typing import Any

from bentoml._internal.server.http import instruments
from bentoml._internal.server.http import traffic as limits

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


def untimed(app: Any, **_: Any) -> Any:
    """In place of BentoML's TimeoutMiddleware: request_timeout_s alone says how long an answer may take.

    The service has a timeout all the same, for the proxies of BentoCloud.
    """
    return app


def install() -> None:
    """Have BentoML take them. Before the application is made, which is when the service has been imported."""
    instruments.RunnerTrafficMetricsMiddleware = RouteMetrics  # type: ignore[misc]
    limits.TimeoutMiddleware = untimed  # type: ignore[misc, assignment]
