"""What the engine tells Triton's metrics endpoint, under the names of TensorRT-LLM's own backend.

nv_trt_llm_request_metrics, nv_trt_llm_kv_cache_block_metrics and nv_trt_llm_general_metrics are from triton_backend's
README, "Metrics". The count of iterations tells an engine that computes from one that stands still.
"""

from __future__ import annotations

import time

import triton_python_backend_utils as pb_utils

COUNT_S = 0.5
"""How often the count of iterations is told, which changes each time."""


class EngineMetrics:
    """Gauges, set only when they change: each setting is a message to Triton."""

    def __init__(self, model: str, kv_blocks: int, block_tokens: int = 0) -> None:
        """`block_tokens` is how many tokens a block holds; 0: the engine says so only as it runs."""
        self._requests = self._family("nv_trt_llm_request_metrics", "Requests in the engine")
        self._blocks = self._family("nv_trt_llm_kv_cache_block_metrics", "KV cache blocks")
        self._general = self._family("nv_trt_llm_general_metrics", "The engine's loop")
        self._iterations = self._general.Metric(labels={"model": model, "general_type": "iteration_counter"})
        self._iterations.set(0)
        self._active = self._requests.Metric(labels={"model": model, "request_type": "active"})
        self._used = self._blocks.Metric(labels={"model": model, "kv_cache_block_type": "used"})
        self._blocks_all = self._blocks.Metric(labels={"model": model, "kv_cache_block_type": "max"})
        self._block_tokens = self._blocks.Metric(labels={"model": model, "kv_cache_block_type": "tokens_per"})
        self.resize(kv_blocks, block_tokens)
        self._last = (0, 0)
        self._counted_at = 0.0

    def resize(self, kv_blocks: int, block_tokens: int) -> None:
        """How many blocks the KV cache has, and of how many tokens, where an engine says so only as it runs."""
        self.kv_blocks = kv_blocks
        self._blocks_all.set(kv_blocks)
        self._block_tokens.set(block_tokens)

    def update(self, steps: int, active: int, cache_usage: float) -> None:
        """Steps made by the engine's loop, `active` requests, and the share of the KV cache in use, in percent."""
        used = round(cache_usage / 100 * self.kv_blocks)
        if (now := time.monotonic()) - self._counted_at >= COUNT_S:
            self._counted_at = now
            self._iterations.set(steps)
        if active != self._last[0]:
            self._active.set(active)
        if used != self._last[1]:
            self._used.set(used)
        self._last = (active, used)

    def close(self) -> None:
        """Give all of them back while Triton listens; for the model's finalize.

        Left until the stub ends, they are given back through memory that is gone, and it dies of SIGSEGV
        (Metric::SaveToSharedMemory of the Python backend, Triton 2.51).
        """
        del self._iterations, self._active, self._used, self._blocks_all, self._block_tokens
        del self._requests, self._blocks, self._general

    @staticmethod
    def _family(name: str, description: str) -> pb_utils.MetricFamily:
        return pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.GAUGE)
