"""OpenTelemetry's spans: one per request, none per message."""

from typing import Any

from opentelemetry.instrumentation import asgi


class RequestSpans(asgi.OpenTelemetryMiddleware):
    """BentoML's tracing without a span for each chunk of a stream, which costs more than the chunk itself.

    OpenTelemetry has an argument for this, but BentoML has no setting (_bentoml_impl/server/app.py, 1.4.40).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "exclude_spans": ["receive", "send"]})


def install() -> None:
    """Have BentoML use it. Call it before the application is made, which happens once the service has been imported."""
    asgi.OpenTelemetryMiddleware = RequestSpans  # type: ignore[misc]
