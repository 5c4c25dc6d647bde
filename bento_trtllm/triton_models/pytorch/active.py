"""A request in TensorRT-LLM's hands: its sequences, and what is still to be sent of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from outbox import Outgoing, Piece
from reply import Reply
from request import EngineRequest


@dataclass(eq=False)
class LLMSequence:
    """One answer in the making: TensorRT-LLM's result, once there is one, and the tokens so far."""

    words: tuple[tuple[int, ...], ...]
    """Stop words of several tokens, which TensorRT-LLM does not look for."""
    end: int | None = None
    """The token that ends an answer, and is no part of it."""
    result: Any = None
    followed: asyncio.Task[None] | None = None
    """What waits for the next response."""
    tokens: list[int] = field(default_factory=list)
    log_prob: float = 0.0
    finished: bool = False

    def take(self, output: Any, scored: bool) -> tuple[list[int], list[float]]:
        """The new tokens of a CompletionOutput, up to a stop word, and their log probabilities, if they are wanted."""
        fresh = list(output.token_ids_diff)
        scores = [_score(entry, token) for entry, token in zip(output.logprobs_diff, fresh)] if scored else []  # noqa: B905
        self.finished = output.finish_reason is not None
        # Its sampler for speculation leaves the end in (process_draft_tokens in _torch/pyexecutor/sampler.py).
        if output.finish_reason == "stop" and fresh and fresh[-1] == self.end:
            fresh, scores = fresh[:-1], scores[: len(fresh) - 1]
        if self.words:
            for i, token in enumerate(fresh, 1):
                self.tokens.append(token)
                if any(tuple(self.tokens[-len(word) :]) == word for word in self.words):
                    fresh, scores = fresh[:i], scores[:i]
                    if not self.finished:
                        self.abort()
                    self.finished = True
                    break
        self.log_prob += sum(scores)
        return fresh, scores

    def abort(self) -> None:
        """Have the engine abandon it."""
        if self.result is not None:
            self.result.abort()


@dataclass(eq=False)
class Active:
    """Each equals only itself."""

    request: EngineRequest
    reply: Reply
    prompt: list[int]
    sequences: list[LLMSequence]
    outgoing: Outgoing
    dropped: bool = False

    @classmethod
    def of(cls, request: EngineRequest, reply: Reply, end: int | None) -> Active:
        """`end` as TensorRT-LLM is given it."""
        words = tuple(word for word in request.stop_words if len(word) > 1)
        # As a stop word, of which a guide leaves none, it is a part of what it ends.
        end = None if (end,) in request.stop_words and not request.guide else end
        sequences = [LLMSequence(words, end) for _ in range(request.sequences)]
        outgoing = Outgoing(reply, request.sequences, request.streaming)
        return cls(request, reply, request.prompt.tolist(), sequences, outgoing)

    def take(self, index: int, step: Any) -> bool:
        """Put what a GenerationResult's one output has made into its piece; whether there is anything to send."""
        sequence = self.sequences[index]
        (output,) = step.outputs
        fresh, scores = sequence.take(output, self.request.log_probs)
        piece: Piece = self.outgoing.pieces[index]
        piece.tokens += fresh
        piece.log_probs += scores
        piece.cum_log_prob = sequence.log_prob
        # GenerationResultBase of executor/result.py has it at 1.2.1, and not yet at 1.1.0.
        piece.cached_tokens = getattr(step, "cached_tokens", -1)
        piece.finished = sequence.finished
        self.outgoing.finished = all(each.finished for each in self.sequences)
        return bool(fresh) or sequence.finished

    def abort(self) -> None:
        for sequence in self.sequences:
            if not sequence.finished:
                sequence.abort()

    def leave(self) -> None:
        """Wait for none of its responses any more: of a request that waits in TensorRT-LLM's queue there is none, not
        even the one that says that it was given up (_handle_canceled_requests in py_executor.py, 1.3.0rc3)."""
        for sequence in self.sequences:
            if sequence.followed and sequence.followed is not asyncio.current_task():
                sequence.followed.cancel()


def _score(entry: Any, token: int) -> float:
    """A token's log probability: of {token: Logprob}, or as it is (CompletionOutput.logprobs)."""
    return float(entry[token].logprob if isinstance(entry, dict) else entry)
