"""Spans of streams that do not go well, and where they are sent, without a service."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from bento_trtllm.bento.exporting import Exporter
from bento_trtllm.config import Settings
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.metrics.routes import operation
from bento_trtllm.metrics.spans import StreamSpan

REQUEST = GenerationRequest([1, 2, 3], 5, Sampling(seed=2**64 - 1))
NEVER = 0.0


def spans(times: tuple[float, float, float, float], outcome: str, tokens: int) -> dict[str, ReadableSpan]:
    """Those of one stream that did not get whole."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("request"):
        stream = StreamSpan.begin(tracer, "chat", "demo", REQUEST)
        assert stream
        stream.end(times, outcome, False, tokens)
    return {span.name: span for span in kept.get_finished_spans()}


def test_a_stream_that_waited_in_vain_has_only_its_time_in_the_queue() -> None:
    found = spans((1.0, NEVER, NEVER, 3.5), "overloaded", 0)
    assert list(found) == ["queue", "chat demo", "request"]
    queue, chat = found["queue"], found["chat demo"]
    assert (queue.start_time, queue.end_time) == (chat.start_time, chat.end_time)
    assert chat.end_time and chat.start_time and chat.end_time - chat.start_time == 2_500_000_000
    assert chat.status.status_code is trace.StatusCode.ERROR
    assert chat.attributes and chat.attributes["error.type"] == "overloaded"
    assert "gen_ai.request.seed" not in chat.attributes, "more than an attribute holds"


def test_a_stream_that_was_cut_before_its_first_token_has_no_decode() -> None:
    found = spans((1.0, 1.5, NEVER, 2.0), "engine_unavailable", 0)
    assert list(found) == ["queue", "prefill", "chat demo", "request"]


def test_an_unsampled_request_has_no_span() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    assert StreamSpan.begin(tracer, "chat", "demo", REQUEST) is None


def test_operations_are_named_as_the_conventions_do() -> None:
    assert operation("/v1/completions") == "text_completion"
    assert {operation(route) for route in ("/generate", "/v1/chat/completions", "/v1/messages", "")} == {"chat"}


@pytest.mark.parametrize("url", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_spans_go_to_the_path_of_traces(url: str) -> None:
    assert Settings(trace_endpoint=url).traces_url == "http://c:4318/v1/traces"


@pytest.mark.parametrize("url", ["c:4318", "grpc://c:4317", "http://", "http://c:4318,count=1", "http://a b"])
def test_what_is_no_collector_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="the URL of a collector"):
        Settings(trace_endpoint=url)


def test_a_rate_without_a_collector_is_refused() -> None:
    with pytest.raises(ValidationError, match="no effect without trace_endpoint"):
        Settings(trace_sample_rate=0.5)


def test_a_collector_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One that was shut down fails at once, where it would try again for seconds."""
    exporter = Exporter("http://127.0.0.1:1/v1/traces")
    exporter.shutdown()  # type: ignore[no-untyped-call]
    exporter.export([])
    exporter.export([])
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "Traces do not reach http://127.0.0.1:1/v1/traces"
    ]
