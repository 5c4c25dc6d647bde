"""What tensorrt_llm.LLM is started with. Names and defaults: tensorrt_llm/llmapi/llm_args.py (1.3.0rc3)."""

from __future__ import annotations

from typing import Any

from settings import PyTorchSettings
from tensorrt_llm.llmapi import (
    CapacitySchedulerPolicy,
    EagleDecodingConfig,
    KvCacheConfig,
    NGramDecodingConfig,
    SchedulerConfig,
)

NGRAM_MATCH = 4
"""Tokens at the end of an answer that are looked for before it, at most."""
# Up to 1.3 the default, TorchSampler, ignores penalties, bad words and seeds without a word
# (_torch/pyexecutor/sampler.py). It came with 1.1.0rc2, and is gone since 1.3.0rc26.
SAMPLER = "TRTLLMSampler"


def llm_arguments(settings: PyTorchSettings) -> dict[str, Any]:
    """Keyword arguments of LLM."""
    cache: dict[str, Any] = {
        "enable_block_reuse": settings.enable_kv_cache_reuse,
        "max_tokens": settings.kv_cache_tokens,
        "dtype": settings.kv_cache_dtype,
    }
    if settings.kv_cache_fraction is not None:
        cache["free_gpu_memory_fraction"] = settings.kv_cache_fraction
    policy = CapacitySchedulerPolicy[settings.batch_scheduler_policy.upper()]
    values: dict[str, Any] = {
        "model": str(settings.engine_dir),
        "backend": "pytorch",
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "dtype": settings.dtype,
        "max_batch_size": settings.max_batch_size,
        "max_seq_len": settings.context_length,
        "max_num_tokens": settings.max_num_tokens,
        "enable_chunked_prefill": settings.enable_chunked_context,
        # It takes the tokenizer from the checkpoint, with its eos_token; nothing else here does.
        "guided_decoding_backend": None if settings.guide_end is None else "xgrammar",
        "kv_cache_config": KvCacheConfig(**cache),
        "scheduler_config": SchedulerConfig(capacity_scheduler_policy=policy),
        # Otherwise nothing says how many steps the engine has made.
        "enable_iter_perf_stats": True,
        **_speculation(settings),
    }
    if not settings.cuda_graphs:
        values["cuda_graph_config"] = None  # left out, they are made for the usual sizes of a batch
    return values


def _speculation(settings: PyTorchSettings) -> dict[str, Any]:
    """How tokens are guessed ahead, and which sampler that leaves."""
    length = settings.draft_tokens
    if settings.speculative == "ngram":
        guess = NGramDecodingConfig(max_draft_len=length, max_matching_ngram_size=NGRAM_MATCH)
        # The pool of n-grams is looked up between steps, which then cannot overlap.
        return {"speculative_config": guess, "disable_overlap_scheduler": True}
    if settings.speculative == "eagle3":
        # With two models, since a single one takes the likeliest token, whatever the request says
        # (allow_advanced_sampling). At 1.1.0 two do not go with steps that overlap
        # (docs/source/features/feature-combination-matrix.md).
        draft = str(settings.draft_dir)
        config = EagleDecodingConfig(max_draft_len=length, speculative_model_dir=draft, eagle3_one_model=False)
        return {"speculative_config": config, "disable_overlap_scheduler": True}
    return {"sampler_type": SAMPLER}
