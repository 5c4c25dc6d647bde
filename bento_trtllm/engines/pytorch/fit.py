"""Whether a checkpoint runs on GPUs by TensorRT-LLM's PyTorch runtime: their kind, their number, and their memory.

How much it takes is the TensorRT engine's estimate (sizing.py there): the weights and the KV cache follow from the
model's shape, and the rest is a guess that no GPU has confirmed.
"""

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.engines.pytorch.options import PyTorchOptions
from bento_trtllm.engines.tensorrt import sizing
from bento_trtllm.engines.tensorrt.fit import BFLOAT16_CAPABILITY, HARDWARE
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.engines.tensorrt.releases import Release
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings

KV_FRACTION = 0.9
"""Of the memory that the engine leaves; KvCacheConfig's own default (llm_args.py, 1.3.0rc3)."""


def shape(options: PyTorchOptions, quantization: str, context_length: int) -> TensorRTSettings:
    """An engine of the same size, as the estimate takes it."""
    values = {
        "tp": options.tp_size,
        "pp": options.pp_size,
        "quantization": quantization,
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens,
        "max_seq_len": context_length,
        "max_input_len": context_length - 1,
    }
    return TensorRTSettings.make(**values)


def capability_fault(quantization: str, gpu: GPU) -> str | None:
    """Why the weights do not run on that kind of GPU; None if they do."""
    if HARDWARE[quantization].runs_on(gpu.capability):
        return None
    return (
        f"the checkpoint's {quantization} weights run on {HARDWARE[quantization].names}, and {gpu.name} has compute "
        f"capability {gpu.sm}: pack the original checkpoint"
    )


def gpu_fault(
    config: DecoderConfig, options: PyTorchOptions, quantization: str, context_length: int, release: Release, gpu: GPU
) -> str | None:
    """Why it cannot run on this GPU; None if it can, as far as the estimate tells."""
    if fault := capability_fault(quantization, gpu):
        return fault
    if gpu.capability < max(release.version.oldest_capability, BFLOAT16_CAPABILITY):
        return (
            f"{gpu.name} (compute capability {gpu.sm}) is older than TensorRT-LLM {release.tensorrt_llm} of release "
            f"{release.tag} was made for: take the TensorRT engine with an earlier release, or another GPU"
        )
    if gpu.capability > release.newest_capability:
        return f"{gpu.name} (compute capability {gpu.sm}) is newer than release {release.tag} (CUDA {release.cuda})"
    size = sizing.estimate(config, shape(options, quantization, context_length))
    tokens = size.kv_tokens(gpu, KV_FRACTION)
    if tokens < context_length:
        return (
            f"{gpu.name} with {gpu.memory / 1e9:.1f} GB is too small: beside {size.weights / 1e9:.1f} GB of weights "
            f"and {size.reserve / 1e9:.1f} GB of reserve a GPU, the KV cache would hold {tokens:,} tokens and one "
            f"request may take {context_length:,}: take more GPUs (--tp), a quantised checkpoint, a smaller "
            "--max-num-tokens or --max-seq-len"
        )
    return None
