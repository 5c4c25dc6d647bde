"""The checkpoint's own files, as TensorRT-LLM's PyTorch runtime loads them, and whether it can.

It reads unquantised weights, and those that NVIDIA's ModelOpt quantised: hf_quant_config.json says how, and holds the
scales' names fixed (tensorrt_llm/_torch/model_config.py, load_modelopt_quant_config at 1.3.0rc3).
"""

import json
import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import INDEX, SINGLE
from bento_trtllm.engines.base import weights_fault
from bento_trtllm.errors import CheckpointError

QUANTIZATIONS = {"FP8": "fp8", "NVFP4": "nvfp4"}
"""Of hf_quant_config.json, by what the tables of GPUs call them."""
INSTEAD = (
    "pack the original, or one that says FP8 or NVFP4 in hf_quant_config.json, such as nvidia/Llama-3.1-8B-Instruct-FP8"
)


class _Quantization(BaseModel):
    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None


class _File(BaseModel):
    quantization: _Quantization


def quantization(checkpoint: Checkpoint) -> str:
    """`none`, `fp8` or `nvfp4`. Raises CheckpointError for weights that TensorRT-LLM cannot load as they are."""
    if said := _said(checkpoint):
        if said.quant_algo in QUANTIZATIONS:
            return QUANTIZATIONS[said.quant_algo]
        if said.quant_algo is not None:
            raise CheckpointError(f"{checkpoint.source} is quantised as {said.quant_algo}: {INSTEAD}")
    if checkpoint.quantized:
        raise CheckpointError(f"{checkpoint.source} is quantised ({checkpoint.quantized}): {INSTEAD}")
    if fault := weights_fault(checkpoint, ""):
        raise CheckpointError(f"{checkpoint.source} {fault}")
    return "none"


def fp8_cache(checkpoint: Checkpoint) -> bool:
    """Whether a quantised checkpoint has the KV cache in FP8, where nothing else is asked for."""
    said = _said(checkpoint)
    return said is not None and said.kv_cache_quant_algo == "FP8"


def _said(checkpoint: Checkpoint) -> _Quantization | None:
    """What hf_quant_config.json says; None where there is none. Raises CheckpointError."""
    file = checkpoint.path / prequantized.FILE
    if not file.is_file():
        return None
    try:
        return _File.model_validate_json(file.read_bytes()).quantization
    except ValidationError as error:
        raise CheckpointError(f"{file} does not say how the weights are quantised: download it again") from error


def files(path: Path) -> list[Path]:
    """What of a checkpoint's directory TensorRT-LLM reads besides the tokenizer: configurations and weights."""
    names = ["config.json", "generation_config.json", prequantized.FILE]
    if (path / SINGLE).is_file():
        names.append(SINGLE)
    else:
        index = json.loads((path / INDEX).read_text("utf-8"))
        names += [INDEX, *sorted(set(index["weight_map"].values()))]
    return [path / name for name in names if (path / name).is_file()]


def place(sources: list[Path], directory: Path) -> None:
    """Put files into a directory: linked where it is on the same disk, else copied. Raises OSError."""
    for source in sources:
        target = directory / source.name
        try:
            # A file in Hugging Face's cache is a link itself.
            os.link(source.resolve(), target)
        except OSError:
            shutil.copyfile(source, target)
