"""A request's span is made where somebody gets it, and nowhere else."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from bento_trtllm.bento import tracing


@pytest.mark.parametrize("wanted", [True, False])
async def test_spans_are_made_for_who_gets_them(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)

    async def nothing(*_: Any) -> None:
        raise AssertionError("nobody reads or sends here")

    provider = TracerProvider()
    if wanted:
        monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer(""))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "scheme": "http", "query_string": b""}
    await tracing.RequestSpans(app, tracer_provider=provider)(scope, nothing, nothing)
    assert seen == [wanted]
