"""Prometheus metrics: requests, tokens and times of this service, its engine's state, and Triton's own metrics.

Names and labels of times are OpenTelemetry's for generative AI servers (gen_ai.server.* in model/gen-ai/metrics.yaml of
open-telemetry/semantic-conventions-genai, 2026), others are vLLM's with the prefix `trtllm_`. A stream is
counted in plain Python (stream_count.py) and enters the metrics once, at its end.

Several workers write files in $PROMETHEUS_MULTIPROC_DIR, which BentoML adds up for /metrics, whichever worker is asked.
What is the same for all workers (the engine's state, Triton's metrics) is added once, by the worker that is asked.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from opentelemetry.trace import Tracer
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import mark_process_dead

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.keys.audit import AuditLog
from bento_trtllm.metrics.exposition import MODEL_LABEL, merge, side_by_side
from bento_trtllm.metrics.inference_pool import kv_cache
from bento_trtllm.metrics.routes import ROUTE, operation
from bento_trtllm.metrics.spans import PROVIDER, StreamSpan
from bento_trtllm.metrics.stream_count import BETWEEN_S, WHOLE, StreamCount
from bento_trtllm.triton.process.metrics import scrape
from bento_trtllm.triton.process.run_folder import State, Status

FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
WHOLE_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
Metric = TypeVar("Metric", bound=MetricWrapperBase)
STATES: tuple[State, ...] = ("starting", "ready", "restarting", "failed", "stopped")


class TokenHistogram(Histogram):
    """A histogram that takes many observations at once, counted elsewhere into the same buckets."""

    def add(self, counts: list[int], total: float) -> None:
        """`counts` has one number per bucket, including +Inf; `total` is the sum of what was observed."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Telemetry:
    """The metrics of one worker. Make it in the worker: only there does BentoML set the folder of the files."""

    def __init__(
        self,
        tracer: Tracer | None = None,
        audit: AuditLog | None = None,
        request_id: Callable[[], str] = lambda: "",
        of_keys: Callable[[], str] = lambda: "",
        *,
        several: bool = False,
    ) -> None:
        """`tracer` makes the spans, where there are any; with `several` models, all metrics say of which they are.

        `request_id` gives the id of the request being served, for the audit log; `of_keys` the metrics of keys.
        """
        _forget_the_dead()
        self.tracer = tracer
        self._audit = audit
        self._request_id = request_id
        self._of_keys = of_keys
        self._admissions: list[tuple[str, Admission]] = []
        self._several = several
        self._shown: set[tuple[str, ...]] = set()
        """The labels of those gauges that are there: one has a value also when its model is gone."""
        by = (MODEL_LABEL,) if several else ()
        self._requests = self._counter(
            "trtllm_requests", "Requests by route and how they ended.", ("route", "outcome", *by)
        )
        self._running = self._gauge("trtllm_num_requests_running", "Requests in the engine.", by)
        self._waiting = self._gauge("trtllm_num_requests_waiting", "Requests queued for the engine.", by)
        self._prompt = self._counter("trtllm_prompt_tokens", "Tokens of prompts that were answered.", by)
        self._generated = self._counter("trtllm_generation_tokens", "Tokens that the engine generated.", by)
        self._queue = self._histogram("trtllm_request_queue_time_seconds", "Time in the queue.", FIRST_S, by)
        of_a_model = ("gen_ai_operation_name", "gen_ai_provider_name", MODEL_LABEL)
        self._first = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request to its first token, including time in the queue.",
            FIRST_S,
            of_a_model,
        )
        self._between = TokenHistogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first; tokens that arrive together share the wait.",
            of_a_model,
            buckets=BETWEEN_S,
            registry=None,
        )
        self._whole = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request to its last token, or to its error.",
            WHOLE_S,
            (*of_a_model, "error_type"),
        )

    def of(self, model: str, admission: Admission) -> "ModelTelemetry":
        """What observes the streams of a model, by the name that clients give; who runs and waits there is counted."""
        self._admissions.append((model, admission))
        self._shown.add(self._by(model))
        admission.changed = self._show_load
        return ModelTelemetry(self, model)

    def forget(self, admission: Admission) -> None:
        """Count them there no longer."""
        self._admissions = [each for each in self._admissions if each[1] is not admission]
        self._show_load()

    def refused(self, kind: str, model: str = "") -> None:
        """A request was refused before it was queued; without a model, before that was known."""
        self._requests.labels(ROUTE.get(), kind, *self._by(model)).inc()

    async def exposition(self, ours: str, engines: Mapping[str, tuple[Status, str]]) -> str:
        """All of /metrics: what BentoML has collected, and by the name of a model its engine's, from Triton.

        With each engine comes what its model itself tells of it.
        """
        told = await asyncio.gather(*(_told(*each) for each in engines.values()))
        if self._several:
            told = [[side_by_side({name: merge(*each) for name, each in zip(engines, told, strict=True)})]]
        return merge(ours, self._of_keys(), *(text for each in told for text in each))

    def add(self, count: StreamCount, model: str) -> None:
        """Count a stream that has ended."""
        if self._audit:
            self._audit.write(self._entry(count, model))
        by = self._by(model)
        self._requests.labels(count.route, count.outcome, *by).inc()
        of_it = (operation(count.route), PROVIDER, model)
        # A label that is empty is the same to Prometheus as none, which is what the conventions want of success.
        error = "" if count.outcome in WHOLE else count.outcome
        self._whole.labels(*of_it, error).observe(count.ended_at - count.began)
        if count.admitted_at:
            _of(self._queue, by).observe(count.admitted_at - count.began)
        if not count.tokens:
            return
        _of(self._prompt, by).inc(count.prompt_tokens)
        _of(self._generated, by).inc(count.tokens)
        self._first.labels(*of_it).observe(count.first_at - count.began)
        self._between.labels(*of_it).add(count.counts, count.last_at - count.first_at)

    def _by(self, model: str) -> tuple[str, ...]:
        """The values of the label MODEL_LABEL, which is there where there are several."""
        return (model,) if self._several else ()

    def _entry(self, count: StreamCount, model: str) -> dict[str, object]:
        """A line of the audit log. Times are in seconds."""
        return {
            "request": self._request_id(),
            "key": count.account.key.name if count.account else None,
            "client": count.client,
            "model": model,
            "route": count.route,
            "outcome": count.outcome,
            "prompt_tokens": count.prompt_tokens if count.tokens else 0,
            "completion_tokens": count.tokens,
            "queued_s": round((count.admitted_at or count.ended_at) - count.began, 3),
            "took_s": round(count.ended_at - count.began, 3),
        }

    def _show_load(self) -> None:
        for by in self._shown:
            its_own = [admission for model, admission in self._admissions if self._by(model) == by]
            _of(self._running, by).set(sum(admission.running for admission in its_own))
            _of(self._waiting, by).set(sum(admission.waiting for admission in its_own))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=None)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=None, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=None)


class ModelTelemetry:
    """The observer of one model's streams: generation.observer.Observer."""

    def __init__(self, telemetry: Telemetry, model: str) -> None:
        self._telemetry = telemetry
        self._model = model

    def began(self, request: GenerationRequest) -> StreamCount:
        """Count one stream; it enters the metrics at its end."""
        tracer = self._telemetry.tracer
        span = StreamSpan.begin(tracer, operation(ROUTE.get()), self._model, request) if tracer else None
        return StreamCount(len(request.input_ids), self._add, span)

    def refused(self, kind: str) -> None:
        """A request was refused before it was queued."""
        self._telemetry.refused(kind, self._model)

    def _add(self, count: StreamCount) -> None:
        self._telemetry.add(count, self._model)


def _of(metric: Metric, labels: tuple[str, ...]) -> Metric:
    return metric.labels(*labels) if labels else metric


async def _told(status: Status, model: str) -> list[str]:
    """What is known of one Triton, and what it tells; of the same metric, the first counts."""
    triton = await scrape(status.metrics) if status.metrics else ""
    return [_engine(status, up=bool(triton)), kv_cache(triton), model, triton]


def _engine(status: Status, up: bool) -> str:
    lines = [
        "# HELP trtllm_engine_restarts_total How often Triton was restarted since the service began.",
        "# TYPE trtllm_engine_restarts_total counter",
        f"trtllm_engine_restarts_total {status.restarts}",
        "# HELP trtllm_engine_state 1 for the state that Triton is in.",
        "# TYPE trtllm_engine_state gauge",
        *(f'trtllm_engine_state{{state="{state}"}} {int(state == status.state)}' for state in STATES),
        "# HELP trtllm_engine_metrics_up 1 if Triton's own metrics are among these.",
        "# TYPE trtllm_engine_metrics_up gauge",
        f"trtllm_engine_metrics_up {int(up)}",
    ]
    return "\n".join(lines)


def _forget_the_dead() -> None:
    """Remove the gauges of workers that were killed, which would still count their requests; called by replacements."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = int(file.stem.rpartition("_")[2])
        with suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
