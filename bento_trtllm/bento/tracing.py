"""OpenTelemetry's spans: one a request, and none a message."""

from typing import Any

from opentelemetry.instrumentation import asgi


class RequestSpans(asgi.OpenTelemetryMiddleware):
    """BentoML's tracing without a span for each chunk of a stream, which costs more than the chunk itself.

    OpenTelemetry has an argument for it, and BentoML no setting (_bentoml_impl/server/app.py, 1.4.40).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "exclude_spans": ["receive", "send"]})


def install() -> None:
    """Have BentoML take it. Before the application is made, which is when the service has been imported."""
    asgi.OpenTelemetryMiddleware = RequestSpans  # type: ignore[misc]
