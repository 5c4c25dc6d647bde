"""What an answer consists of: pieces of text as they come, then one Finish."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length"]


class TokenScore(NamedTuple):
    """A token of the answer, and the natural logarithm of the probability that the model gave it."""

    token: int
    log_prob: float


class TextDelta(NamedTuple):
    """Text in whole characters; the scores, where they were asked for, of the tokens that begin in it.

    `ids` are the tokens that came since the last one, whatever of their text is in this.
    """

    text: str
    scores: Sequence[TokenScore] = ()
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class TokenCounts:
    """Tokens, counted, not estimated. The end token counts: the engine made it."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Finish:
    """The last item of a stream that ended well.

    `stop` is the text or the token that was asked to end it, if one did; `ids` are the tokens left over: an end token,
    unless the engine keeps that.
    """

    reason: FinishReason
    usage: TokenCounts
    stop: str | int | None = None
    ids: Sequence[int] = ()
