"""Settings of a TensorRT engine, made at pack time. What can change without a new build is in config.py.

A field's own default is BentoTRTLLM's value. The presets differ in what they trade:

    tutorial     BentoTRTLLM's flags, exactly. Up to 2048 requests at once; attention sees 2560 tokens.
    throughput   Tokens a second of the whole GPU: large steps (8192 tokens), requests packed until the KV cache is
                 full and paused where it overflows, shared beginnings of prompts kept. A single stream is slower.
    latency      The pace of each stream: at most 16 at once, small steps (2048 tokens), so that a long prompt holds
                 up the others little, and no request is ever paused. The GPU as a whole makes fewer tokens.

Flags: tensorrt_llm/commands/build.py and tensorrt_llm/plugin/plugin.py; parameters: docs/model_config.md of
tensorrtllm_backend, which also gives the defaults of those that are left out.
"""

from typing import Any, Literal

from pydantic import AliasChoices, Field, model_validator

from bento_trtllm.engines.options import EngineOptions
from bento_trtllm.engines.tensorrt.releases import DEFAULT

Preset = Literal["tutorial", "throughput", "latency"]
Quantization = Literal["none", "fp8", "int4_awq", "nvfp4"]

AWQ_SAMPLES = 32
"""TensorRT-LLM takes no more than these for AWQ (quantization/quantize_by_modelopt.py, every release)."""
FP8_CACHE = ("fp8", "nvfp4")
"""Quantizations that an FP8 KV cache goes with. With INT4-AWQ, TensorRT-LLM up to 0.16 does not build it, and 1.x turns
paged context attention off without a word, and with it chunked context and KV cache reuse (builder.py)."""


class TensorRTOptions(EngineOptions):
    """For NVIDIA GPUs: a TensorRT engine. What is not given comes from the preset; lengths are in tokens."""

    release: str = Field(DEFAULT, description="Tag of NVIDIA's container that builds and serves it.")
    preset: Preset = Field("tutorial", description="Where the values that are not given come from.")
    dtype: Literal["bfloat16", "float16"] = Field("bfloat16", description="Of activations, and of unquantised weights.")
    quantization: Quantization = Field(
        "none", description="Of the weights; fp8 and nvfp4 quantise activations as well."
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(
        "auto", description="Of the KV cache. auto: fp8 with fp8 and nvfp4 weights, else dtype."
    )
    calibration_dataset: str = Field(
        "cnn_dailymail", description="To quantise with: what the release takes, see calibration.py."
    )
    calibration_samples: int = Field(
        512, ge=1, description="TensorRT-LLM's default; 32 are quick, and all that int4_awq takes."
    )
    tp_size: int = Field(
        1, ge=1, validation_alias=AliasChoices("tp_size", "tp"), description="GPUs that share each layer."
    )
    pp_size: int = Field(
        1, ge=1, validation_alias=AliasChoices("pp_size", "pp"), description="GPUs that share the layers out."
    )
    max_batch_size: int = Field(2048, ge=1, description="Requests that run at once, at most.")
    max_input_len: int = Field(2048, ge=1, description="Longest prompt.")
    max_seq_len: int | None = Field(
        None, ge=2, description="Longest prompt and answer together. None: TensorRT-LLM's choice."
    )
    max_num_tokens: int = Field(2048, ge=1, description="Tokens of one step, prompts included.")
    gpu: str | None = Field(None, exclude=True, description="With --dry-run: plan for this GPU, such as L40S.")


class TensorRTSettings(TensorRTOptions):
    """Everything that shapes an engine."""

    gemm_plugin: Literal["auto", "disable"] = Field("auto", description="cuBLASLt for matrix products, in dtype.")
    multiple_profiles: bool = Field(True, description="More TensorRT profiles: a longer build, faster steps.")
    use_paged_context_fmha: bool = Field(True, description="Needed by chunked context and by KV cache reuse.")

    max_attention_window_size: int | None = Field(2560, ge=1, description="Tokens that attention sees. None: all.")
    kv_cache_free_gpu_mem_fraction: float = Field(0.9, gt=0, lt=1, description="Of the memory that the engine leaves.")
    enable_kv_cache_reuse: bool = Field(False, description="Keep the KV cache of prompts for shared beginnings.")
    enable_chunked_context: bool = Field(True, description="Split long prompts over steps.")
    batch_scheduler_policy: Literal["max_utilization", "guaranteed_no_evict"] = Field(
        "guaranteed_no_evict", description="Whether a running request may be paused when the KV cache is full."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = {**PRESETS.get(data.get("preset", "tutorial"), {}), **data}
        quantization = filled.get("quantization", "none")
        if filled.get("kv_cache_dtype", "auto") == "auto" and quantization in FP8_CACHE:
            filled["kv_cache_dtype"] = "fp8"
        if quantization == "int4_awq":
            filled.setdefault("calibration_samples", AWQ_SAMPLES)
        elif quantization == "none" and (given := [name for name in filled if name.startswith("calibration_")]):
            raise ValueError(f"--{given[0].replace('_', '-')} goes with a --quantization")
        return filled

    @model_validator(mode="after")
    def _check(self) -> "TensorRTSettings":
        if self.kv_cache_dtype == "fp8" and self.quantization == "none":
            raise ValueError("an FP8 KV cache needs calibration: take it with --quantization fp8 or nvfp4")
        if self.kv_cache_dtype == "fp8" and self.quantization not in FP8_CACHE:
            raise ValueError(
                f"an FP8 KV cache does not go with --quantization {self.quantization}, which TensorRT-LLM cannot build "
                "or builds without paged context attention: leave out --kv-cache-dtype, or take --quantization fp8"
            )
        if self.quantization == "int4_awq" and self.calibration_samples > AWQ_SAMPLES:
            raise ValueError(f"int4_awq takes at most {AWQ_SAMPLES} --calibration-samples")
        if self.max_seq_len is not None and self.max_seq_len <= self.max_input_len:
            raise ValueError(
                f"max_seq_len {self.max_seq_len} leaves no room for an answer after max_input_len {self.max_input_len}"
            )
        if (self.enable_chunked_context or self.enable_kv_cache_reuse) and not self.use_paged_context_fmha:
            raise ValueError("chunked context and KV cache reuse need use_paged_context_fmha")
        if fault := scheduler_fault(self.batch_scheduler_policy, self.enable_chunked_context):
            raise ValueError(fault)
        return self

    @property
    def world_size(self) -> int:
        """Ranks; each has a GPU."""
        return self.tp_size * self.pp_size

    def parameters(self) -> dict[str, str]:
        """Parameters of the Triton model tensorrt_llm; one that is left out has TensorRT-LLM's default. Paths are
        relative."""
        values = {
            "gpt_model_type": "inflight_fused_batching",
            "gpt_model_path": "engine",
            "max_beam_width": "1",
            "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
            "exclude_input_in_output": "true",
            "batch_scheduler_policy": self.batch_scheduler_policy,
            "kv_cache_free_gpu_mem_fraction": str(self.kv_cache_free_gpu_mem_fraction),
            "enable_kv_cache_reuse": str(self.enable_kv_cache_reuse).lower(),
            "enable_chunked_context": str(self.enable_chunked_context).lower(),
            # Left out, it is true: a score is then one among what top-k leaves, and a greedy token's is 0.0.
            "normalize_log_probs": "false",
            # A client that leaves is noticed five times sooner than by default, for 50 looks a second.
            "cancellation_check_period_ms": "20",
        }
        if self.max_attention_window_size is not None:
            values["max_attention_window_size"] = str(self.max_attention_window_size)
        return values


def scheduler_fault(policy: str, chunked_context: bool) -> str | None:
    """Why the two do not go together; None if they do.

    Without chunked context TensorRT-LLM resumes a paused request by reading prompt and answer in one step, and refuses
    what could then be longer than max_num_tokens.
    """
    if policy == "max_utilization" and not chunked_context:
        return (
            "batch_scheduler_policy=max_utilization needs enable_chunked_context: without it long requests are "
            "refused; take guaranteed_no_evict, or leave chunked context on"
        )
    return None


PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {},
    "throughput": {
        "max_batch_size": 512,
        "max_input_len": 7168,
        "max_seq_len": 8192,
        "max_num_tokens": 8192,
        "max_attention_window_size": None,
        "enable_kv_cache_reuse": True,
        "batch_scheduler_policy": "max_utilization",
    },
    "latency": {
        "max_batch_size": 16,
        "max_input_len": 7168,
        "max_seq_len": 8192,
        "max_num_tokens": 2048,
        "max_attention_window_size": None,
        "enable_kv_cache_reuse": True,
    },
}
