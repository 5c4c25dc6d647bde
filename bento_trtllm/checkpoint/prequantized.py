"""Whether a checkpoint's weights are already quantised, and how that is recorded.

    config.json            quantization_config, as transformers writes it (FP8, AWQ, GPTQ, bitsandbytes, …)
    hf_quant_config.json   beside it, as NVIDIA's ModelOpt writes it: {"quantization": {"quant_algo": "FP8", …}}
    *.safetensors          weights of eight bits or fewer: F8_E4M3, I8, U8 (which also holds pairs of four), …

https://nvidia.github.io/Model-Optimizer documents the second; the types are safetensors' (safetensors/src/tensor.rs).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bento_trtllm.checkpoint.safetensors import Tensor

FILE = "hf_quant_config.json"
NARROW = ("F8_", "F6_", "F4", "I8", "U8")
"""Prefixes of the names of types that no unquantised Llama has."""


def quantized_by(
    quantization_config: Mapping[str, Any] | None, modelopt: Mapping[str, Any], tensors: Iterable[Tensor]
) -> str | None:
    """What shows that it is quantised, in a few words; None if nothing does. `modelopt` is FILE's content, or empty."""
    if quantization_config is not None:
        return str(quantization_config.get("quant_method", "by an unknown method"))
    quantization = modelopt.get("quantization")
    if isinstance(quantization, dict) and (algorithm := quantization.get("quant_algo")):
        return f"{algorithm}, says {FILE}"
    if narrow := sorted({tensor.dtype for tensor in tensors if tensor.dtype.startswith(NARROW)}):
        return f"weights of the type {', '.join(narrow)}"
    return None


def in_pairs(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a tensor holds weights of that shape two a byte, as NVFP4's are."""
    return tensor.dtype == "U8" and (*tensor.shape[:-1], 2 * tensor.shape[-1]) == shape
