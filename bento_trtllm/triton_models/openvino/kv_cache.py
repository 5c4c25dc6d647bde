"""How much memory a KV cache takes, and the rest of an engine. Needs nothing but Python: the service asks it, too."""

from __future__ import annotations

BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "u8": 1.125}
"""Of a value; u8 has a scale and a zero point, f32 both, for the 64 values or more of a head."""
WORKING = 256 << 20
"""Bytes that an engine takes besides its weights and the KV cache: libraries, activations and logits."""
SHARE = 0.25
"""Of the memory that is free at start; the rest is for the weights, the activations and the page cache."""
SEQUENCES = 64
"""More is never used by default: no more sequences run at once than this, each with its whole context."""


def token_bytes(values_per_token: int, precision: str) -> int:
    """Bytes of the KV cache for a token."""
    return int(values_per_token * BYTES[precision])


def cached_tokens(free: int, bytes_of_a_token: int, context: int, sequences: int) -> int:
    """How many tokens the KV cache holds, unless a setting says it: a context at least."""
    affordable = int(free * SHARE) // bytes_of_a_token
    return max(min(affordable, context * min(sequences, SEQUENCES)), context)
