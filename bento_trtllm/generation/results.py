"""What an answer consists of: pieces of text as they arrive, then one Finish."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bento_trtllm.generation.source import PromptScore, Top

FinishReason = Literal["stop", "length"]


class TokenScore(NamedTuple):
    """A token of the answer, and the natural logarithm of its probability by the model; if requested, the likeliest."""

    token: int
    log_prob: float
    top: Top = ()


class TextDelta(NamedTuple):
    """Text in whole characters; if requested, the scores of the tokens that begin in it.

    `ids` are the tokens since the previous delta, however much of their text is in this one. `prompt` are scores of
    the prompt's tokens, which come without text and before the answer's first.
    """

    text: str
    scores: Sequence[TokenScore] = ()
    ids: Sequence[int] = ()
    prompt: Sequence[PromptScore] = ()


@dataclass(frozen=True)
class TokenCounts:
    """Tokens, counted and not estimated. The end token counts: the engine generated it.

    `cached_tokens` are those of the prompt's that the engine had computed before; None: it does not tell.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Finish:
    """The last item of a stream that ended without an error.

    `stop` is the requested text or token that ended it, if one did; `ids` are the remaining tokens: an end token, if
    the engine sends it.
    """

    reason: FinishReason
    usage: TokenCounts
    stop: str | int | None = None
    ids: Sequence[int] = ()
