"""A stream's span, and in it one for its time in the queue, one for prefill and one for decode.

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI (model/gen-ai/spans.yaml of
open-telemetry/semantic-conventions-genai, 2026, gen_ai.inference.client: what calls a model in another process). No
attribute has any text of a prompt or an answer. The parts are made at the end, of times that were taken for the metrics
anyway: a traced stream costs no more for each of its tokens.
"""

import time

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bento_trtllm.generation.parameters import GenerationRequest

PROVIDER = "bento-trtllm"
"""gen_ai.provider.name: whose telemetry this is. None of the conventions' names is."""

Times = tuple[float, float, float, float]
"""When a stream began, was admitted, had its first token and ended, by time.perf_counter(); 0 for what never came."""


class StreamSpan:
    """The span of one stream of a traced request."""

    __slots__ = ("_began_ns", "_span", "_tracer", "headers")

    def __init__(self, tracer: Tracer, span: Span, began_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._began_ns = began_ns
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
        self.headers = tuple(carrier.items())
        """W3C's `traceparent`, and `tracestate` where there is one."""

    @classmethod
    def begin(cls, tracer: Tracer, operation: str, model: str, request: GenerationRequest) -> "StreamSpan | None":
        """A span in that of the HTTP request; None if that one is not sampled."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        sampling = request.sampling
        attributes: dict[str, str | float | None] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": sampling.top_k,
            "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
            "gen_ai.request.presence_penalty": sampling.presence_penalty,
            # Ours may have 64 bits, an attribute's integer has 63.
            "gen_ai.request.seed": sampling.seed if sampling.seed is None or sampling.seed < 2**63 else None,
            "gen_ai.usage.input_tokens": len(request.input_ids),
        }
        given = {name: value for name, value in attributes.items() if value is not None}
        now = time.time_ns()
        span = tracer.start_span(f"{operation} {model}", kind=SpanKind.CLIENT, attributes=given, start_time=now)
        return cls(tracer, span, now)

    def end(self, times: Times, outcome: str, whole: bool, tokens: int) -> None:
        """The stream is over: with a finish reason if it is `whole`, else with the kind of an error."""
        began, admitted, first, ended = times
        context = trace.set_span_in_context(self._span)
        parts = [
            ("queue", began, admitted or ended, {}),
            ("prefill", admitted, first or ended, {}),
            ("decode", first, ended, {"gen_ai.usage.output_tokens": tokens}),
        ]
        for name, start, end, attributes in parts:
            if start:
                part = self._tracer.start_span(name, context, attributes=attributes, start_time=self._at(start, began))
                part.end(self._at(end, began))
        self._span.set_attribute("gen_ai.usage.output_tokens", tokens)
        if first:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", first - began)
        if whole:
            self._span.set_attribute("gen_ai.response.finish_reasons", (outcome,))
        else:
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._at(ended, began))

    def _at(self, seconds: float, began: float) -> int:
        return self._began_ns + int((seconds - began) * 1e9)
