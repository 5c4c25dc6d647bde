"""What metrics call a request's path: one of a few names, whatever clients ask for.

BentoML labels several families with the path as it was sent, before any key is looked at: each new one would be kept,
and told to Prometheus at every scrape, as long as the service runs.
"""

from typing import Any

from bentoml._internal.server.http import instruments

OTHER = "other"
PATHS = {
    *("/", "/chat", "/docs.json", "/schema.json", "/generate", "/livez", "/readyz", "/healthz", "/metrics"),
    *("/v1/models", "/v1/chat/completions", "/v1/completions"),
}
BELOW = {"/v1/models/": "/v1/models/{model}", "/static_content/": "/static_content"}
SENT = "bento_trtllm.path"


def label(path: str) -> str:
    """The name of a path."""
    if path in PATHS:
        return path
    return next((name for prefix, name in BELOW.items() if path.startswith(prefix)), OTHER)


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
