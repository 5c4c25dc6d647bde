"""Whether a TensorRT engine can be: that GPUs can share the model, and that one of them holds its part."""

from bento_trtllm.checkpoint import LlamaConfig
from bento_trtllm.engines import sizing
from bento_trtllm.engines.gpus import GPU
from bento_trtllm.engines.releases import find_release
from bento_trtllm.engines.tensorrt_settings import TensorRTSettings

FP8_CAPABILITY = (8, 9)
BFLOAT16_CAPABILITY = (8, 0)


def division_fault(config: LlamaConfig, settings: TensorRTSettings) -> str | None:
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
    if settings.quantization == "int4_awq" and (odd := [row for row in rows if row % sizing.AWQ_GROUP]):
        return (
            f"has rows of {odd[0]} weights a GPU, and INT4-AWQ quantises in groups of {sizing.AWQ_GROUP}: take "
            "another --quantization or --tp"
        )
    return None


def gpu_fault(config: LlamaConfig, settings: TensorRTSettings, context_length: int, gpu: GPU) -> str | None:
    """Why one rank cannot run on this GPU; None if it can, as far as the estimate tells."""
    release = find_release(settings.release)
    if settings.quantization == "fp8" and gpu.capability < FP8_CAPABILITY:
        return (
            f"FP8 needs compute capability 8.9 (Ada, Hopper) and {gpu.name} has {gpu.sm}: "
            "take --quantization int4_awq or none"
        )
    if settings.kv_cache_dtype == "fp8" and gpu.capability < FP8_CAPABILITY:
        return f"an FP8 KV cache needs compute capability 8.9 and {gpu.name} has {gpu.sm}: take --kv-cache-dtype auto"
    if settings.dtype == "bfloat16" and gpu.capability < BFLOAT16_CAPABILITY:
        return f"bfloat16 needs compute capability 8.0 and {gpu.name} has {gpu.sm}: take --dtype float16"
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
    block = release.tokens_per_block
    if settings.max_batch_size * block > tokens:
        return (
            f"max_batch_size {settings.max_batch_size} is beyond the KV cache: at {block} tokens a block, "
            f"{gpu.name} has room for {tokens // block} requests: lower --max-batch-size"
        )
    return None
