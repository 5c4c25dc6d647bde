"""One sequence in the making: a request's place in OpenVINO's continuous batch.

OpenVINO GenAI has no list of bad words. It can forbid the stop tokens for the first `min_new_tokens`
tokens (logit_processor.hpp, EOSPenaltyTransform), and that is enough: the tokens forbidden now are given
as stop tokens that may not come. When the forbidden set changes (a word's beginning was just written, or
min_tokens is reached) the sequence is resubmitted with what it has so far as its prompt, which is computed
anew. Requests without bad words take the engine's own path throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import openvino as ov
import openvino_genai as genai
from guide import Guide
from request import EngineRequest

STOP = genai.GenerationFinishReason.STOP
WORDS = 3
"""How many of the last tokens, at most, must have been there before, for what followed them then to be guessed."""
NONE = genai.GenerationFinishReason.NONE
# 1 leaves only the likeliest token, and any as likely; OpenVINO GenAI takes values below (2026.4.1).
MOST_MIN_P = 1 - 2**-24


def structure(guide: Guide) -> genai.StructuredOutputConfig:
    """A guide as OpenVINO GenAI takes it."""
    if guide.kind == "regex":
        return genai.StructuredOutputConfig(regex=guide.text)
    if guide.kind == "ebnf_grammar":
        return genai.StructuredOutputConfig(grammar=guide.text)
    return genai.StructuredOutputConfig(json_schema=guide.text if guide.kind == "json_schema" else "{}")


@dataclass
class Sequence:
    """Generates for `request` with `seed`. `step` gives the tokens of the last engine step."""

    request: EngineRequest
    seed: int
    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    begun: bool = False
    log_prob: float = 0.0
    _handle: genai.GenerationHandle | None = None
    _banned: frozenset[int] = frozenset()

    def submit(self, pipeline: genai.ContinuousBatchingPipeline, request_id: int, guessed: int = 0) -> None:
        """Enter the batch, for the first time or with the tokens so far. Raises RuntimeError if refused.

        `guessed` tokens a step are taken from what followed the last words earlier, in a pipeline that does so.
        """
        request = self.request
        self._banned = self._forbidden()
        config = genai.GenerationConfig()
        config.max_new_tokens = request.max_tokens - len(self.tokens)
        stops = self._banned or request.end_ids
        config.stop_token_ids = set(stops)
        config.ignore_eos = not stops
        # Else the engine adds the end token of the model's config.json to the stop tokens of the request.
        config.eos_token_id = next(iter(stops), -1)
        config.min_new_tokens = (
            config.max_new_tokens if self._banned else min(request.min_tokens, config.max_new_tokens)
        )
        config.do_sample = request.sampled
        if request.sampled:
            config.temperature = request.temperature
            config.top_p = request.top_p
            config.min_p = min(request.min_p, MOST_MIN_P)
            if request.top_k:
                config.top_k = request.top_k
            config.rng_seed = (self.seed + len(self.tokens)) % 2**64
        config.repetition_penalty = request.repetition_penalty
        config.presence_penalty = request.presence_penalty
        config.frequency_penalty = request.frequency_penalty
        config.logprobs = int(request.log_probs)
        if guessed:
            config.num_assistant_tokens, config.max_ngram_size = guessed, WORDS
        if request.guide:
            config.structured_output_config = structure(request.guide)
        prompt = np.concatenate([request.prompt, np.array(self.tokens, dtype=np.int64)])
        self._handle = pipeline.add_request(request_id, ov.Tensor(prompt[np.newaxis]), config)

    def read(self) -> tuple[list[int], list[float]]:
        """The tokens of the last step, with their log probabilities (natural logarithm)."""
        assert self._handle is not None
        if not self._handle.can_read():
            return [], []
        (output,) = self._handle.read().values()
        self.begun = True
        fresh: list[int] = output.generated_ids
        scores: list[float] = output.generated_log_probs
        ended = output.finish_reason != NONE
        if self.request.tracked:
            for i, token in enumerate(fresh):
                self.tokens.append(token)
                if self._stops():
                    fresh, scores, ended = fresh[: i + 1], scores[: i + 1], True
                    self.cancel()
                    break
        self.log_prob += sum(scores)
        self.finished = ended
        return fresh, scores

    @property
    def refused(self) -> bool:
        """The engine gave the sequence up: it cannot fit the KV cache."""
        return self._handle is not None and self._handle.get_status() == genai.GenerationStatus.IGNORED

    @property
    def outdated(self) -> bool:
        """What is forbidden has changed since the sequence was submitted."""
        return self.request.tracked and not self.finished and self._forbidden() != self._banned

    def cancel(self) -> None:
        """Leave the batch; the engine frees the KV cache at its next step."""
        if self._handle is not None:
            self._handle.cancel()

    def _stops(self) -> bool:
        if len(self.tokens) < self.request.min_tokens:
            return False
        if self.tokens[-1] in self.request.end_ids:
            return True
        return any(self._ends_with(word) for word in self.request.stop_words)

    def _forbidden(self) -> frozenset[int]:
        """The tokens that may not come next, empty where the engine's own min_new_tokens says it all."""
        request = self.request
        if not request.bad_words:
            return frozenset()
        banned = {word[-1] for word in request.bad_words if self._ends_with(word[:-1])}
        if len(self.tokens) < request.min_tokens:
            banned |= request.end_ids
        return frozenset(banned)

    def _ends_with(self, word: tuple[int, ...]) -> bool:
        return not word or tuple(self.tokens[-len(word) :]) == word
