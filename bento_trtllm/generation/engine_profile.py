"""What of an engine and its model the core has to know."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineProfile:
    """Lengths are in tokens. The first of `end_ids` is the one that ends a chat's turn.

    `guided` says that the engine keeps answers to a grammar. `bans_first_end_only` says that the engine, where it keeps
    an answer from ending before `min_tokens`, does so for its first end token alone.
    """

    vocab_size: int
    context_length: int
    end_ids: Sequence[int]
    longest_prompt: int
    guided: bool = False
    bans_first_end_only: bool = False
