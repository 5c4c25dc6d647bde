"""Whether a checkpoint runs on GPUs by TensorRT-LLM's PyTorch runtime: their kind, their number, and their memory.

How much it takes is the TensorRT engine's estimate (sizing.py there): the weights and the KV cache follow from the
model's shape, and the rest is a guess that no GPU has confirmed.
"""

from dataclasses import dataclass, replace

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.engines.pytorch.options import PyTorchOptions
from bento_trtllm.engines.tensorrt import sizing
from bento_trtllm.engines.tensorrt.fit import BFLOAT16_CAPABILITY, HARDWARE
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.engines.tensorrt.releases import Release
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings

KV_FRACTION = 0.9
"""Of the memory that the engine leaves; KvCacheConfig's own default (llm_args.py, 1.1.0 to 1.3.0rc3)."""


@dataclass(frozen=True)
class Load:
    """What GPUs are to hold. `quantization` is that of the weights: none, fp8 or nvfp4."""

    config: DecoderConfig
    options: PyTorchOptions
    quantization: str
    fp8_cache: bool
    context_length: int

    @property
    def shape(self) -> TensorRTSettings:
        """An engine of the same size, as the estimate takes it."""
        values = {
            "tp": self.options.tp_size,
            "pp": self.options.pp_size,
            "quantization": self.quantization,
            "max_batch_size": self.options.max_batch_size,
            "max_num_tokens": self.options.max_num_tokens,
            "max_seq_len": self.context_length,
            "max_input_len": self.context_length - 1,
        }
        return TensorRTSettings.make(**values)

    @property
    def size(self) -> sizing.Size:
        """Unlike a TensorRT engine's, the KV cache's type does not follow from that of the weights."""
        found = sizing.estimate(self.config, self.shape)
        assumed, real = (1 if fp8 else 2 for fp8 in (self.shape.kv_cache_dtype == "fp8", self.fp8_cache))
        return replace(found, kv_bytes_per_token=found.kv_bytes_per_token * real // assumed)


def capability_fault(quantization: str, fp8_cache: bool, gpu: GPU) -> str | None:
    """Why weights, or an FP8 KV cache, do not run on that kind of GPU; None if they do."""
    if not HARDWARE[quantization].runs_on(gpu.capability):
        return (
            f"the checkpoint's {quantization} weights run on {HARDWARE[quantization].names}, and {gpu.name} has "
            f"compute capability {gpu.sm}: pack the original checkpoint"
        )
    if fp8_cache and not HARDWARE["fp8"].runs_on(gpu.capability):
        return (
            f"an FP8 KV cache runs on {HARDWARE['fp8'].names}, and {gpu.name} has compute capability {gpu.sm}: pack "
            "without --kv-cache-dtype fp8"
        )
    return None


def gpu_fault(load: Load, release: Release, gpu: GPU) -> str | None:
    """Why it cannot run on this GPU; None if it can, as far as the estimate tells."""
    if fault := capability_fault(load.quantization, load.fp8_cache, gpu):
        return fault
    if gpu.capability < max(release.version.oldest_capability, BFLOAT16_CAPABILITY):
        return (
            f"{gpu.name} (compute capability {gpu.sm}) is older than TensorRT-LLM {release.tensorrt_llm} of release "
            f"{release.tag} was made for: take the TensorRT engine with an earlier release, or another GPU"
        )
    if gpu.capability > release.newest_capability:
        return f"{gpu.name} (compute capability {gpu.sm}) is newer than release {release.tag} (CUDA {release.cuda})"
    size, longest = load.size, load.context_length
    tokens = size.kv_tokens(gpu, KV_FRACTION)
    if tokens < longest:
        return (
            f"{gpu.name} with {gpu.memory / 1e9:.1f} GB is too small: beside {size.weights / 1e9:.1f} GB of weights "
            f"and {size.reserve / 1e9:.1f} GB of reserve a GPU, the KV cache would hold {tokens:,} tokens and one "
            f"request may take {longest:,}: take more GPUs (--tp), a quantised checkpoint, a smaller "
            "--max-num-tokens or --max-seq-len"
        )
    return None
