"""Tiny random models of every architecture, whose log probabilities transformers once gave: tests/data/logits.json, by
scripts/make_logits_fixture.py."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.checkpoints import write_checkpoint

DATA = Path(__file__).parents[1] / "data" / "logits.json"
TOKENS = 300
"""Beyond what the scaled ropes call their original context."""
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}
CASES: dict[str, dict[str, Any]] = {
    "Llama 3": {"config": {"architectures": ["LlamaForCausalLM"]}},
    "Llama 3.1": {"config": {"architectures": ["LlamaForCausalLM"], "rope_scaling": LLAMA3}},
    "Llama 3.2": {
        "tied": True, "head_dim": 32, "config": {"architectures": ["LlamaForCausalLM"], "rope_scaling": LLAMA3},
    },
    "Llama with biases and a linear rope": {
        "config": {
            "architectures": ["LlamaForCausalLM"], "attention_bias": True, "mlp_bias": True, "rope_scaling": LINEAR,
        },
    },
    "Mistral": {
        "config": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    },
    "Qwen2": {"config": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False}},
    "Qwen3": {
        "head_dim": 32,
        "config": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "use_sliding_window": False},
    },
    "SmolLM3": {
        "tied": True, "layers": 4,
        "config": {
            "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0],
            "pad_token_id": 0,
        },
    },
}  # fmt: skip


def made(case: str, directory: Path) -> Path:
    """The checkpoint of a case, in f32 and always the same."""
    return write_checkpoint(directory / "tiny", dtype="F32", seed=sorted(CASES).index(case), **CASES[case])


def prompt(case: str) -> list[int]:
    """Its tokens, always the same."""
    return list(map(int, np.random.default_rng(sorted(CASES).index(case)).integers(0, 512, TOKENS)))
