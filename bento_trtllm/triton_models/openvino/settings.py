"""The model's parameters in config.pbtxt, and what `0` means for each on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cores import cores, groups, physical_cores
from kv_cache import cached_tokens, token_bytes
from memory import free_memory
from pacing import Pace
from precisions import Precisions

# OpenVINO's CPU plugin keeps the KV cache in blocks of 32 tokens (PagedAttention, 2026.4).
BLOCK_TOKENS = 32


@dataclass(frozen=True)
class OpenVINOSettings:
    """Parameters of config.pbtxt, read; names are TensorRT-LLM's where the meaning is the same."""

    engine_dir: Path
    vocab_size: int
    context_length: int
    kv_values_per_token: int
    max_tokens_in_paged_kv_cache: int
    max_num_tokens: int
    max_num_sequences: int
    enable_chunked_context: bool
    prompt_lookup: int
    threads: int
    precisions: Precisions
    exclude_input_in_output: bool
    cancellation_check_period_ms: int
    response_pace: Pace

    @classmethod
    def read(cls, parameters: dict[str, Any]) -> OpenVINOSettings:
        """From the `parameters` of Triton's model configuration: {name: {"string_value": "…"}}.

        Raises ValueError for what this engine must not do.
        """
        text = {name: value["string_value"] for name, value in parameters.items()}
        # OpenVINO GenAI 2026.4.1; cause and canary are in tests/triton/test_prefix_cache.py.
        if text["enable_kv_cache_reuse"] != "false":
            raise ValueError(
                "enable_kv_cache_reuse must be false: OpenVINO GenAI's prefix cache gives prompts that share their "
                "beginning each other's answers."
            )
        return cls(
            engine_dir=Path(text["gpt_model_path"]),
            vocab_size=int(text["vocab_size"]),
            context_length=int(text["context_length"]),
            kv_values_per_token=int(text["kv_values_per_token"]),
            max_tokens_in_paged_kv_cache=int(text["max_tokens_in_paged_kv_cache"]),
            max_num_tokens=int(text["max_num_tokens"]),
            max_num_sequences=int(text["max_num_sequences"]),
            enable_chunked_context=text["enable_chunked_context"] == "true",
            prompt_lookup=int(text["prompt_lookup"]),
            threads=int(text["threads"]),
            precisions=Precisions.read(text),
            exclude_input_in_output=text["exclude_input_in_output"] == "true",
            cancellation_check_period_ms=int(text["cancellation_check_period_ms"]),
            response_pace=Pace(float(text["response_pace_ms"])),
        )

    def num_kv_blocks(self) -> int:
        """Blocks of the KV cache: what was asked for, else a share of the free memory."""
        tokens = self.max_tokens_in_paged_kv_cache
        if not tokens:
            of_a_token = token_bytes(self.kv_values_per_token, self.precisions.kv_cache)
            tokens = cached_tokens(
                free_memory(groups("memory")), of_a_token, self.context_length, self.max_num_sequences
            )
        return tokens // BLOCK_TOKENS + 1

    def prefill_tokens(self) -> int:
        """Tokens a step: what was asked for, else 128 a core, so that a long prompt's prefill does not
        hold up the streams beside it for long on few cores, and fills the matrix units on many. With fewer
        than 512, prompts take a tenth longer (docs/performance.md)."""
        return self.max_num_tokens or max(512, min(128 * cores(), 2048))

    def inference_threads(self) -> int:
        """Threads: what was asked for, else OpenVINO's own choice, which is 0, but never more than the cores of the
        container's quota: it takes one a physical core and does not look for a quota (2026.4)."""
        quota = cores()
        return self.threads or (quota if quota < physical_cores() else 0)
