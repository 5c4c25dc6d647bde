"""BentoML's request metrics, with a bounded set of path labels; and its time limit, which is removed.

BentoML labels several metric families with the path as it was sent, before any key is checked
(bentoml/_internal/server/http/instruments.py).
"""

from typing import Any

from bentoml._internal.server.http import instruments
from bentoml._internal.server.http import traffic as limits

from bento_trtllm.metrics.routes import label

SENT = "bento_trtllm.path"


class RouteMetrics(instruments.RunnerTrafficMetricsMiddleware):
    """BentoML's request metrics, which see a label in place of the path; the application behind them sees the path."""

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
    """Replaces BentoML's TimeoutMiddleware: only request_timeout_s limits how long an answer may take.

    The service still declares a timeout, for BentoCloud's proxies.
    """
    return app


def install() -> None:
    """Have BentoML use them. Call it before the application is made, once the service has been imported."""
    instruments.RunnerTrafficMetricsMiddleware = RouteMetrics  # type: ignore[misc]
    limits.TimeoutMiddleware = untimed  # type: ignore[misc, assignment]
