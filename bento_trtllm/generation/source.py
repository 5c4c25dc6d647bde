"""Where tokens come from: the engine, as the core sees it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bento_trtllm.generation.deadlines import Deadlines


@dataclass(frozen=True)
class TokenRequest:
    """What to ask the engine for, for one answer.

    Values that are None are left to the engine. `stop_words` are sequences of token ids; like `end_id` they end the
    answer and are its last tokens. Without top_k and top_p the engine takes the likeliest token, whatever the
    temperature. `bad_words` are never generated; `embedding_bias` has one number per token of the vocabulary; `guide`
    is a guide type of TensorRT-LLM's guided decoding ("ebnf_grammar", …) and its text; `adapter` is the number of a
    packed LoRA adapter. `top_log_probs` is how many of the likeliest tokens come with each token, and
    `prompt_log_probs` how many with each of the prompt's; with it, max_tokens may be 0. `trace` is who asks, as the
    headers of W3C's trace context.
    """

    input_ids: Sequence[int]
    max_tokens: int
    end_id: int | None = None
    stop_words: Sequence[Sequence[int]] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    min_tokens: int | None = None
    bad_words: Sequence[Sequence[int]] = ()
    embedding_bias: Sequence[float] = ()
    guide: tuple[str, str] | None = None
    log_probs: bool = False
    top_log_probs: int | None = None
    prompt_log_probs: int | None = None
    trace: tuple[tuple[str, str], ...] = ()
    adapter: int | None = None


Top = Sequence[tuple[int, float]]
"""The likeliest tokens of one place with their log probabilities, the likeliest first."""


class PromptScore(NamedTuple):
    """Of a token of the prompt: the natural logarithm of its probability, its rank from 1, and the likeliest."""

    log_prob: float
    rank: int
    top: Top


class TokenBatch(NamedTuple):
    """Tokens that arrived together; their log probabilities and the likeliest tokens if the request asked for them.

    `prompt` has scores of the prompt's tokens, of each but the first, in their order; they come before the answer.
    `cached` is how many of the prompt's tokens the engine had computed before, where it tells.
    """

    ids: Sequence[int]
    log_probs: Sequence[float] = ()
    tops: Sequence[Top] = ()
    prompt: Sequence[PromptScore] = ()
    cached: int | None = None


class TokenSource(Protocol):
    """An engine that can be asked for tokens: triton.wire.client.TritonClient."""

    def stream(
        self, request: TokenRequest, deadlines: Deadlines, began: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[TokenBatch]]:
        """Ask for one answer; iterate over its tokens as they arrive, in batches that are never empty.

        The deadlines count from `began`, by the event loop's clock; by default from now. The iterator ends without an
        error only after the answer's last token; otherwise it raises RequestRefused, EngineUnavailable or
        EngineTimeout. Leaving the context before the end cancels the request in the engine.
        """
        ...
