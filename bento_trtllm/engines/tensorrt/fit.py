"""Whether a TensorRT engine is possible: whether GPUs can share the model, and each of them hold its part."""

from dataclasses import dataclass

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.engines.tensorrt import sizing
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.engines.tensorrt.releases import RELEASES, Release, find_release
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings

BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Hardware:
    """The GPUs that run a quantization: compute capabilities from `since` on, and below `until`."""

    names: str
    since: tuple[int, int]
    until: tuple[int, int] = (99, 0)

    def runs_on(self, capability: tuple[int, int]) -> bool:
        return self.since <= capability < self.until


HARDWARE = {
    "none": Hardware("any GPU that the release knows", (0, 0)),
    "fp8": Hardware("Ada, Hopper and Blackwell", (8, 9)),
    "int4_awq": Hardware("GPUs before Blackwell", (0, 0), (10, 0)),
    "nvfp4": Hardware("Blackwell", (10, 0)),
}
"""TensorRT-LLM's docs/source/legacy/reference/support-matrix.md at 1.3.0rc3. INT4: builder.py ends on
capability 10.x with "INT8/INT4 quantization is not supported on SM>=100", and docs/source/features/quantization.md has
no W4A16 on 12.0."""
QUANTIZED_ROWS = {"int4_awq": ("INT4-AWQ", sizing.AWQ_GROUP), "nvfp4": ("NVFP4", sizing.NVFP4_GROUP)}
"""Quantizations whose scales are shared by so many weights of a row."""


def quantization_fault(settings: TensorRTSettings, release: Release) -> str | None:
    """Why the release cannot quantise like that; None if it can."""
    if settings.quantization == "nvfp4" and not release.version.nvfp4:
        first = next(other for other in RELEASES.values() if other.version.nvfp4)
        return (
            f"TensorRT-LLM {release.tensorrt_llm} of release {release.tag} has no NVFP4 for Llama, as far as was read: "
            f"take --release {first.tag} or later"
        )
    return None


def division_fault(config: DecoderConfig, settings: TensorRTSettings) -> str | None:
    """Why the model cannot be shared out over that many GPUs, or cut into AWQ's groups; None if it can."""
    tp, pp = settings.tp_size, settings.pp_size
    heads, kv_heads, inner = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
    if heads % tp or inner % tp or (kv_heads % tp and tp % kv_heads):
        fitting = [n for n in range(1, heads + 1) if not (heads % n or inner % n or (kv_heads % n and n % kv_heads))]
        return (
            f"has {heads} attention heads, {kv_heads} KV heads and an inner size of {inner}, which {tp} GPUs cannot "
            f"share: choose --tp from {', '.join(map(str, fitting))}"
        )
    if config.num_hidden_layers % pp:
        fitting = [n for n in range(1, config.num_hidden_layers + 1) if not config.num_hidden_layers % n]
        return (
            f"has {config.num_hidden_layers} layers, which a pipeline of {pp} cannot share evenly: choose --pp from "
            f"{', '.join(map(str, fitting))}"
        )
    rows = (config.hidden_size, heads * config.head_dim // tp, inner // tp)
    name, group = QUANTIZED_ROWS.get(settings.quantization, ("", 1))
    if odd := [row for row in rows if row % group]:
        return (
            f"has rows of {odd[0]} weights a GPU, and {name} quantises in groups of {group}: take another "
            "--quantization or --tp"
        )
    return None


def gpu_fault(config: DecoderConfig, settings: TensorRTSettings, context_length: int, gpu: GPU) -> str | None:
    """Why one rank cannot run on this GPU; None if it can, as far as the estimate tells."""
    release = find_release(settings.release)
    if not HARDWARE[settings.quantization].runs_on(gpu.capability):
        others = [name for name in reversed(HARDWARE) if HARDWARE[name].runs_on(gpu.capability)]
        return (
            f"{settings.quantization} runs on {HARDWARE[settings.quantization].names}, and {gpu.name} has compute "
            f"capability {gpu.sm}: take --quantization {' or '.join(others)}"
        )
    if settings.dtype == "bfloat16" and gpu.capability < BFLOAT16_CAPABILITY:
        return f"bfloat16 needs compute capability 8.0 and {gpu.name} has {gpu.sm}: take --dtype float16"
    if gpu.capability < release.version.oldest_capability:
        fitting = [other.tag for other in RELEASES.values() if gpu.capability >= other.version.oldest_capability]
        way_out = f"take --release {fitting[-1]} or earlier" if fitting else "none of the releases runs on it"
        return (
            f"{gpu.name} (compute capability {gpu.sm}) is older than TensorRT-LLM {release.tensorrt_llm} of release "
            f"{release.tag} was made for: {way_out}"
        )
    if gpu.capability > release.newest_capability:
        return (
            f"{gpu.name} (compute capability {gpu.sm}) is newer than release {release.tag} "
            f"(CUDA {release.cuda}): take a later --release"
        )
    size = sizing.estimate(config, settings)
    tokens = size.kv_tokens(gpu, settings.kv_cache_free_gpu_mem_fraction)
    longest = min(context_length, settings.max_attention_window_size or 1 << 62)
    needed = f"{size.weights / 1e9:.1f} GB of weights and {size.reserve / 1e9:.1f} GB of reserve a GPU"
    if tokens < longest:
        return (
            f"{gpu.name} with {gpu.memory / 1e9:.1f} GB is too small: beside {needed}, the KV cache would hold "
            f"{tokens:,} tokens and one request may take {longest:,}: take more GPUs (--tp), a --quantization, "
            "a smaller --max-num-tokens or --max-seq-len"
        )
    block = release.version.tokens_per_block
    if settings.max_batch_size * block > tokens:
        return (
            f"max_batch_size {settings.max_batch_size} is beyond the KV cache: at {block} tokens a block, "
            f"{gpu.name} has room for {tokens // block} requests: lower --max-batch-size"
        )
    return None
