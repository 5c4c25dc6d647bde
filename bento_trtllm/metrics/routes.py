"""The label of a request's path in the metrics: one of a few, whatever paths clients ask for.

Every new label would be kept, and exported at every scrape, for as long as the service runs.
"""

from contextvars import ContextVar

ROUTE: ContextVar[str] = ContextVar("route", default="")
"""The label of the request being served."""

OTHER = "other"
ANSWERS = ("/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
"""Where a POST is answered by the engine."""
JSON = (*ANSWERS, "/v1/messages/count_tokens", "/tokenize", "/detokenize")
"""Where a POST has a JSON body."""
PATHS = {
    *JSON,
    *("/", "/chat", "/docs.json", "/schema.json", "/livez", "/readyz", "/healthz", "/metrics", "/v1/models"),
    *("/health", "/ping", "/version", "/load", "/admin", "/admin.json"),
}
BELOW = {
    "/v1/models/": "/v1/models/{model}",
    "/v1/responses/": "/v1/responses/{id}",
    "/static_content/": "/static_content",
}


COMPLETIONS = {"/v1/completions"}
"""Where a text is continued; elsewhere a chat is answered."""


def operation(route: str) -> str:
    """What a route does to the model, as OpenTelemetry's conventions name it."""
    return "text_completion" if route in COMPLETIONS else "chat"


def label(path: str) -> str:
    """The label of a path."""
    if path in PATHS:
        return path
    return next((name for prefix, name in BELOW.items() if path.startswith(prefix)), OTHER)
