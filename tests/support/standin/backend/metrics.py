"""Upstream's metrics: custom_metrics_reporter.cc, and WaitForStats in model_instance_state.cc.

They are what the iterations have left behind, read every stats_check_period_ms: while a step hangs, nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import triton_python_backend_utils as pb_utils
from executor import Stats

GIB = 2**30
# Family: its description, its label, and the label's values at 0.10.0; then those that 1.x has besides.
GAUGES = {
    "nv_trt_llm_request_metrics": (
        "TRT LLM request metrics",
        "request_type",
        ("active", "max", "scheduled", "context"),
        ("waiting",),
    ),
    "nv_trt_llm_runtime_memory_metrics": (
        "TRT LLM runtime memory metrics",
        "memory_type",
        ("cpu", "gpu", "pinned"),
        (),
    ),
    "nv_trt_llm_kv_cache_block_metrics": (
        "TRT LLM KV cache block metrics",
        "kv_cache_block_type",
        ("max", "free", "used", "tokens_per"),
        ("reused", "fraction"),
    ),
    "nv_trt_llm_inflight_batcher_metrics": (
        "TRT LLM inflight_batcher-specific metrics",
        "inflight_batcher_specific_metric",
        ("total_context_tokens", "generation_requests", "micro_batch_id", "paused_requests"),
        (),
    ),
    "nv_trt_llm_general_metrics": (
        "General TRT LLM metrics",
        "general_type",
        ("timestamp", "iteration_counter"),
        (),
    ),
}
COUNTERS = {
    "nv_trt_llm_disaggregated_serving_metrics": (
        "TRT LLM disaggregated serving metrics",
        "disaggregated_serving_type",
        (),
        ("kv_cache_transfer_ms", "request_count"),
    ),
}
"""The histograms nv_llm_input_token_len and nv_llm_output_token_len of 1.x are left out: this Triton's Python backend
has none."""


class Metrics:
    """All families from the start, each metric 0 until an iteration."""

    def __init__(self, model: str, version: str, old: bool, blocks: int, max_requests: int) -> None:
        self._metrics: dict[str, dict[str, pb_utils.Metric]] = {}
        self._families: list[pb_utils.MetricFamily] = []  # with its last reference a family goes, and all of it
        self._blocks, self._max_requests = blocks, max_requests
        for kind, families in ((pb_utils.MetricFamily.GAUGE, GAUGES), (pb_utils.MetricFamily.COUNTER, COUNTERS)):
            for name, (description, label, labels, added) in families.items():
                if values := labels if old else labels + added:
                    family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
                    common = {"model": model, "version": version}
                    self._metrics[name] = {value: family.Metric(labels={**common, label: value}) for value in values}
                    self._families.append(family)

    def update(self, stats: Stats) -> None:
        used = round(stats.kv_used / 100 * self._blocks)
        self._set(
            "nv_trt_llm_request_metrics",
            active=stats.active,
            max=self._max_requests,
            scheduled=stats.scheduled,
            context=stats.context,
            waiting=stats.active - stats.scheduled,
        )
        self._set("nv_trt_llm_runtime_memory_metrics", cpu=GIB, gpu=GIB, pinned=GIB)
        self._set(
            "nv_trt_llm_kv_cache_block_metrics",
            max=self._blocks,
            free=self._blocks - used,
            used=used,
            tokens_per=32,
            reused=0,
            fraction=used / self._blocks,
        )
        self._set(
            "nv_trt_llm_inflight_batcher_metrics",
            total_context_tokens=stats.context_tokens,
            generation_requests=stats.active - stats.context,
            micro_batch_id=0,
            paused_requests=0,
        )
        self._set("nv_trt_llm_general_metrics", timestamp=time.time() * 1e6, iteration_counter=stats.iteration)

    def close(self) -> None:
        """Give all of them back while Triton listens."""
        self._metrics.clear()
        self._families.clear()

    def _set(self, family: str, **values: float) -> None:
        metrics: Mapping[str, pb_utils.Metric] = self._metrics[family]
        for label, value in values.items():
            if label in metrics:
                metrics[label].set(value)
