"""Published Llamas as checkpoints without weights: their config.json values, and shards that do not exist."""

import json
from math import prod
from pathlib import Path

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import Tensor

CONFIGS = json.loads((Path(__file__).parents[1] / "data" / "llamas.json").read_text("utf-8"))
LLAMA3_8B = "meta-llama/Meta-Llama-3-8B-Instruct"
LLAMA3_70B = "meta-llama/Meta-Llama-3-70B-Instruct"
LLAMA31_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA31_405B = "meta-llama/Llama-3.1-405B-Instruct"
SMOLLM2_135M = "HuggingFaceTB/SmolLM2-135M-Instruct"


def llama(name: str, **changes: object) -> Checkpoint:
    """One of CONFIGS, as if it had been downloaded."""
    config = LlamaConfig.model_validate(CONFIGS[name] | changes)
    path = Path("/checkpoints", name)
    tensors = {
        tensor: Tensor(path / "model.safetensors", "BF16", shape, 0, 2 * prod(shape))
        for tensor, shape in config.shapes().items()
    }
    eos = config.eos_token_id
    ends = (eos,) if isinstance(eos, int) else tuple(eos or ())
    return Checkpoint(path, config, name, "0" * 40, tensors, ends, config.bos_token_id)
