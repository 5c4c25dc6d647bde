"""OpenTelemetry's spans: BentoML's one per request, none per message; ours per stream are in metrics/spans.py.

With `trace_endpoint` they go to a collector. BentoML can be told of one, too, by its own configuration file, and then
ours go there with BentoML's. Either way one exporter has them all, and the span of a request is BentoML's alone.
"""

from typing import TYPE_CHECKING, Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from opentelemetry.instrumentation import asgi
from opentelemetry.trace import Tracer
from opentelemetry.util.http import ExcludeList

from bento_trtllm import VERSION
from bento_trtllm.config import TraceSettings

if TYPE_CHECKING:
    from bento_trtllm.bento.exporting import Exporting

UNTRACED = ("livez$", "readyz$", "healthz$", "health$", "ping$", "metrics$")
"""Probes and scrapes, by the ends of their URLs: they would be most of all spans."""


class RequestSpans(asgi.OpenTelemetryMiddleware):
    """BentoML's tracing without a span for each chunk of a stream, which costs more than the chunk itself.

    OpenTelemetry has an argument for this, but BentoML has no setting (_bentoml_impl/server/app.py, 1.4.40).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "exclude_spans": ["receive", "send"]})
        self._wanted = tracer() is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI. Where nobody gets spans none are made: they are a third of what a refusal costs."""
        await (super().__call__ if self._wanted else self.app)(scope, receive, send)


_installed: "list[Exporting]" = []


def install(settings: TraceSettings) -> None:
    """Have BentoML use it. Call it before the application is made, which happens once the service has been imported."""
    asgi.OpenTelemetryMiddleware = RequestSpans  # type: ignore[misc]
    if settings.trace_endpoint and bentoml.server_context.worker_index is not None:
        from bento_trtllm.bento.exporting import Exporting  # noqa: PLC0415 - a tenth of a second

        _installed.append(Exporting(settings))
        BentoMLContainer.tracer_provider.set(_installed[0].provider)
        BentoMLContainer.tracing_excluded_urls.set(ExcludeList(UNTRACED))


def tracer() -> Tracer | None:
    """What makes the spans of streams; None where nobody gets them."""
    if not _installed and not BentoMLContainer.config.tracing.exporter_type.get():
        return None
    found: Tracer = BentoMLContainer.tracer_provider.get().get_tracer("bento-trtllm", VERSION)
    return found


def flush() -> None:
    """Send what is left, for a second at most; blocks meanwhile."""
    for each in _installed:
        each.flush()
