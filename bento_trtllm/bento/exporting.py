"""What makes spans and sends them to a collector. Importing it takes a tenth of a second: only who has one does."""

import logging
import threading
from collections.abc import Sequence

import bentoml
from bentoml._internal.context import trace_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from bento_trtllm import VERSION
from bento_trtllm.config import TraceSettings

LOGGER = logging.getLogger("bento_trtllm.tracing")
NAME = "bento-trtllm"
EXPORT_S = 5
"""A collector that has not taken a batch by then does not get it."""
FLUSH_S = 1
"""How long the last spans may take at a stop."""


class Exporter(OTLPSpanExporter):
    """Says once that spans do not reach the collector, and once that they do again."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=EXPORT_S)
        # It would say so at each try.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._url = url
        self._reached = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        reached = result is SpanExportResult.SUCCESS
        if reached != self._reached:
            says = (
                "Traces reach %s again." if reached else "Traces do not reach %s (trace_endpoint): is it a collector?"
            )
            LOGGER.warning(says, self._url)
        self._reached = reached
        return result


class Exporting:
    """What was installed: where spans are made, and what sends them."""

    def __init__(self, settings: TraceSettings) -> None:
        attributes = {"service.name": NAME, "service.version": VERSION}
        if (index := bentoml.server_context.worker_index) is not None:
            attributes["service.instance.id"] = str(index)
        trace_context.service_name = NAME  # as BentoML's own provider does, for the access log
        self.exporter = Exporter(settings.traces_url)
        # At exit it would wait for a collector for half a minute.
        self.provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(settings.trace_sample_rate),
            resource=Resource.create(attributes),
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))

    def flush(self) -> None:
        """Send what is left; a collector that does not take it at once does not get it."""
        sending = threading.Thread(target=self.provider.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_S)
        if sending.is_alive():
            self.exporter.shutdown()  # type: ignore[no-untyped-call]
