"""What the core has to know about an engine and its model."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineProfile:
    """Lengths are in tokens. The first of `end_ids` is the one that ends a chat's turn.

    `guided` says that the engine can follow a grammar. `bans_first_end_only` says that, to keep an answer from ending
    before `min_tokens`, the engine bans only its first end token.
    """

    vocab_size: int
    context_length: int
    end_ids: Sequence[int]
    longest_prompt: int
    guided: bool = False
    bans_first_end_only: bool = False
