"""The model's parameters in config.pbtxt; names are those of NVIDIA's backend where the meaning is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacing import Pace


@dataclass(frozen=True)
class PyTorchSettings:
    """Lengths are in tokens. `kv_cache_tokens` None and `kv_cache_fraction` None leave it to TensorRT-LLM."""

    engine_dir: Path
    vocab_size: int
    context_length: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    dtype: str
    max_batch_size: int
    max_num_tokens: int
    kv_cache_dtype: str
    kv_cache_tokens: int | None
    kv_cache_fraction: float | None
    enable_kv_cache_reuse: bool
    enable_chunked_context: bool
    batch_scheduler_policy: str
    cuda_graphs: bool
    speculative: str
    """"" for none, "ngram" or "eagle3"."""
    draft_tokens: int
    draft_dir: Path
    guide_end: int | None
    """The tokenizer's eos_token; None where it has none."""
    exclude_input_in_output: bool
    cancellation_check_s: float
    response_pace: Pace

    @classmethod
    def read(cls, parameters: dict[str, Any]) -> PyTorchSettings:
        """From the `parameters` of Triton's model configuration: {name: {"string_value": "…"}}."""
        text = {name: value["string_value"] for name, value in parameters.items()}
        fraction = text["kv_cache_free_gpu_mem_fraction"]
        return cls(
            engine_dir=Path(text["gpt_model_path"]),
            vocab_size=int(text["vocab_size"]),
            context_length=int(text["context_length"]),
            tensor_parallel_size=int(text["tensor_parallel_size"]),
            pipeline_parallel_size=int(text["pipeline_parallel_size"]),
            dtype=text["dtype"],
            max_batch_size=int(text["max_batch_size"]),
            max_num_tokens=int(text["max_num_tokens"]),
            kv_cache_dtype=text["kv_cache_dtype"],
            kv_cache_tokens=int(text.get("max_tokens_in_paged_kv_cache", "0")) or None,
            kv_cache_fraction=float(fraction) if fraction else None,
            enable_kv_cache_reuse=text["enable_kv_cache_reuse"] == "true",
            enable_chunked_context=text["enable_chunked_context"] == "true",
            batch_scheduler_policy=text["batch_scheduler_policy"],
            cuda_graphs=text["cuda_graphs"] == "true",
            speculative=text["speculative"],
            draft_tokens=int(text["draft_tokens"]),
            draft_dir=Path(text["gpt_model_path"], text["draft_folder"]),
            guide_end=int(text["guide_end_id"]) if text["guide_end_id"] else None,
            exclude_input_in_output=text["exclude_input_in_output"] == "true",
            cancellation_check_s=int(text["cancellation_check_period_ms"]) / 1000,
            response_pace=Pace(float(text["response_pace_ms"])),
        )
