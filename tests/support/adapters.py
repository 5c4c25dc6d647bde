"""LoRA adapters made up for tests, as PEFT saves them (peft 0.21.2, tuners/lora/config.py), with random weights."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from bento_trtllm.checkpoint.adapter import CONFIG, WEIGHTS
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from tests.support.checkpoints import write_safetensors


def write_adapter(
    directory: Path,
    checkpoint: Checkpoint,
    targets: list[str],
    *,
    base: str | None = None,
    seed: int = 0,
    value: float | None = None,
    strength: float = 0.1,
    **config: Any,
) -> Path:
    """An adapter on every layer's `targets`, for a model called `base`; all of its numbers are `value`, if given."""
    directory.mkdir()
    settings: dict[str, Any] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base or str(checkpoint.path),
        "target_modules": targets, "bias": "none", "lora_dropout": 0.05, "fan_in_fan_out": False, "use_dora": False,
        "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": True,
    }  # fmt: skip
    settings |= config
    (directory / CONFIG).write_text(json.dumps(settings))
    random = np.random.default_rng(seed)
    tensors = {}
    for name, size in checkpoint.config.shapes().items():
        module = name.removesuffix(".weight")
        if not any(f".{module}".endswith(f".{target}") for target in targets):
            continue
        patterns: dict[str, int] = settings["rank_pattern"]
        rank = next((r for key, r in patterns.items() if re.search(key, module)), settings["r"])
        for side, shape in (("A", (rank, size[1])), ("B", (size[0], rank))):
            numbers = random.standard_normal(shape, dtype=np.float32) * np.float32(strength)
            if value is not None:
                numbers = np.full(shape, value, np.float32)
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = ("F32", numbers)
    write_safetensors(directory / WEIGHTS, tensors)
    return directory
