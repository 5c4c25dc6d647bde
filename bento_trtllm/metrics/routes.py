"""What metrics call a request's path: one of a few names, whatever clients ask for.

Each new name is kept, and told to Prometheus at every scrape, as long as the service runs.
"""

OTHER = "other"
JSON = (
    *("/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses"),
    *("/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize"),
)
"""Where a POST has a body of JSON."""
PATHS = {
    *JSON,
    *("/", "/chat", "/docs.json", "/schema.json", "/livez", "/readyz", "/healthz", "/metrics", "/v1/models"),
    *("/health", "/ping", "/version", "/load"),
}
BELOW = {
    "/v1/models/": "/v1/models/{model}",
    "/v1/responses/": "/v1/responses/{id}",
    "/static_content/": "/static_content",
}


def label(path: str) -> str:
    """The name of a path."""
    if path in PATHS:
        return path
    return next((name for prefix, name in BELOW.items() if path.startswith(prefix)), OTHER)
