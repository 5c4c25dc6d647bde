"""Rotary frequencies, as transformers' modeling_rope_utils.py has them (5.24): default, linear, and Llama 3.1's."""

import math

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig, RopeScaling

KNOWN = ("default", "linear", "llama3")


def frequencies(config: DecoderConfig) -> NDArray[np.float32]:
    """Radians a position for each pair of a head's dimensions, [head_dim / 2].

    Raises ValueError for a scaling that is not in KNOWN, or lacks a number.
    """
    plain = config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    return _scaled(plain, config.rope_scaling).astype(np.float32)


def _scaled(plain: NDArray[np.float64], scaling: RopeScaling) -> NDArray[np.float64]:
    kind = scaling.rope_type
    if kind not in KNOWN:
        raise ValueError(f"by {kind}: only {' and '.join(KNOWN[1:])} can be packed")
    if kind == "default":
        return plain
    if scaling.factor is None:
        raise ValueError(f"by {kind}, and config.json names no factor")
    if kind == "linear":
        return plain / scaling.factor
    low, high, length = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position_embeddings
    if low is None or high is None or length is None or low >= high:
        raise ValueError(
            "by llama3, and config.json lacks one of low_freq_factor, high_freq_factor (the larger one) and "
            "original_max_position_embeddings"
        )
    turns = length * plain / (2 * math.pi)
    # Of the frequency itself: 0 where it turns seldom within the original context, 1 where it turns often.
    share = np.clip((turns - low) / (high - low), 0, 1)
    scaled: NDArray[np.float64] = plain * (share + (1 - share) / scaling.factor)
    return scaled
