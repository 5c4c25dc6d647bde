"""tensorrt_llm.lora_helper, and what is done with a configuration when an adapter is loaded."""

import json
from pathlib import Path
from typing import Any

from contract import NotUpstream, record

LoraConfig = record("LoraConfig")
HF_MODULES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_dense", "gate_proj": "mlp_h_to_4h",
    "down_proj": "mlp_4h_to_h", "up_proj": "mlp_gate",
}  # fmt: skip
"""get_default_trtllm_modules_to_hf_modules, the other way round."""


def check_adapter(config: Any, folder: Path) -> None:
    """load_from_hf (lora_manager.py) skips what the configuration does not name, with a warning in a log."""
    settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    if not (folder / "adapter_model.safetensors").is_file():
        raise ValueError(f"Failed to load adapter_model from {folder}")
    if odd := {HF_MODULES[name] for name in settings["target_modules"]} - set(config.lora_target_modules):
        raise NotUpstream(f"{odd} of {folder} would be skipped")
    if settings["r"] > config.max_lora_rank:
        raise NotUpstream(f"the rank {settings['r']} of {folder} has no room")
