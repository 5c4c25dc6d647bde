"""LoRA adapters in a pack, from which each request may choose: those that TensorRT-LLM's PyTorch runtime can load.

tensorrt_llm/lora_helper.py (names of modules) and lora_manager.py (load_from_hf) of 1.3.0rc3: each module has the rank
of its own weights, and all of them the one lora_alpha.
"""

import re
from collections.abc import Mapping, Sequence

from bento_trtllm.checkpoint.adapter import Adapter, read_adapter
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.pytorch.beside import Beside
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.triton_models.shared.adapters import FOLDER, INDEX, Adapters

MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_dense",
    "gate_proj": "mlp_h_to_4h",
    "down_proj": "mlp_4h_to_h",
    "up_proj": "mlp_gate",
}
QKV = ("attn_q", "attn_k", "attn_v")
"""One matrix in the engine: all of them are adapted, or none (get_missing_qkv_modules_from_lora_modules)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
INSTEAD = "merge it into the weights with --merge-lora"


def read(given: Sequence[str], checkpoint: Checkpoint) -> Beside:
    """Adapters, of NAME=DIR each. Raises EngineError, and CheckpointError for one that cannot be loaded."""
    found: dict[str, Adapter] = {}
    for each in given:
        name, _, directory = each.partition("=")
        if not NAME.fullmatch(name) or not directory:
            raise EngineError(f"--lora {each} is not NAME=DIR, with a name of letters, digits, and -_. between")
        if name in found:
            raise EngineError(f"--lora gives the name {name} twice: requests choose an adapter by its name")
        found[name] = _loadable(read_adapter(directory, checkpoint))
    return _beside(found) if found else Beside()


def _loadable(adapter: Adapter) -> Adapter:
    if odd := next((name for name in adapter.pairs if _module(name) not in MODULES), None):
        raise CheckpointError(f"{adapter.path} changes {odd}, which TensorRT-LLM does not adapt: {INSTEAD}")
    if not adapter.uniform_alpha:
        raise CheckpointError(f"{adapter.path} has an alpha_pattern, which TensorRT-LLM does not read: {INSTEAD}")
    return adapter


def _module(weight: str) -> str:
    """q_proj of model.layers.0.self_attn.q_proj.weight."""
    return weight.split(".")[-2]


def _beside(adapters: Mapping[str, Adapter]) -> Beside:
    modules = {MODULES[_module(name)] for adapter in adapters.values() for name in adapter.pairs}
    if modules & set(QKV):
        modules |= set(QKV)
    rank = max(adapter.rank for adapter in adapters.values())
    files = {f"{FOLDER}/{name}/{file.name}": file for name, adapter in adapters.items() for file in adapter.files}
    return Beside(files, {f"{FOLDER}/{INDEX}": Adapters(tuple(adapters), rank, tuple(sorted(modules))).text()})
