"""Turns the tokens of one answer into text as they arrive."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import repeat

from bento_trtllm.generation.results import FinishReason, TextDelta, TokenScore
from bento_trtllm.generation.source import TokenBatch
from bento_trtllm.generation.tokenizer import AnswerTokenizer
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.grammar import MAX_SHORTEST, Grammar
from bento_trtllm.text.stop import StopStrings


class OutputProcessor:
    """Takes tokens until a stop string, a stop token, an end token, or the last token that is allowed.

    An answer that follows a grammar is never cut short: before its tokens run out, it is ended in the shortest way that
    the grammar allows, still with the finish reason "length". Stop strings are not looked for in it: it ends by itself,
    and nothing follows. It has no names of control tokens either.

    End tokens have scores with `score_ends` only. `stop_ids` has for each stop token what was asked for, which
    `stop_reason` reports.
    """

    def __init__(
        self,
        tokenizer: AnswerTokenizer,
        *,
        end_ids: frozenset[int],
        max_tokens: int,
        stop: Sequence[str] = (),
        stop_ids: Mapping[int, str | int] | None = None,
        keep_stop: bool = False,
        named: bool = False,
        grammar: Grammar | None = None,
        keep_ids: bool = False,
        score_ends: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._named = named and grammar is None
        self._detokenizer = tokenizer.detokenizer(named=self._named)
        self._end_ids = end_ids
        self._max_tokens = max_tokens
        self._stop = StopStrings(stop, keep=keep_stop)
        self._stop_ids = stop_ids or {}
        self._keep_stop = keep_stop
        self._ending = Ending(grammar) if grammar else None
        # The last closing text that was counted and its tokens: within a string the closing text stays the same.
        self._counted = "", 0
        self._scores: deque[tuple[int, TokenScore]] = deque()
        self._keep_ids = keep_ids
        self._score_ends = score_ends
        self._ids: list[int] = []
        self._made = 0
        self._shown = 0
        self._last = -1
        self.generated = 0
        self.stopped = False
        self.stop_reason: str | int | None = None
        self._cut = False
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether no more tokens are needed."""
        return self.stopped or self._cut

    @property
    def reason(self) -> FinishReason:
        """The finish reason, once the answer is over."""
        if self._cut:
            return "length"
        return "stop" if self.stopped or self._ended or self._last in self._end_ids else "length"

    def feed(self, tokens: TokenBatch) -> TextDelta | None:
        """The text that these tokens complete, if any."""
        if self._ending:
            text = self._follow(tokens, self._ending)
        else:
            self._note(tokens)
            text = self._pass(tokens.ids)
        return self._delta(text, self._cut)

    def take_ids(self) -> Sequence[int]:
        """The tokens since the last time, where they are to be kept."""
        ids = tuple(self._ids)
        self._ids.clear()
        return ids

    def over(self) -> None:
        """The engine has sent its last token. TensorRT-LLM does not send its end token, which is counted all the
        same."""
        if not self.done and self._last not in self._end_ids and self.generated < self._max_tokens and self._end_ids:
            self._ended = True
            self.generated += 1

    def flush(self) -> TextDelta | None:
        """The text that was held back, once there are no more tokens."""
        if self.stopped:
            return None
        if self._ending:
            # Where the grammar allows its text, an engine may pick a control token, and so end the answer early.
            closing = "" if self._cut or self._ending.complete else self._close(self._ending)
            return self._delta(closing, last=True)
        text, self.stopped = self._stop.feed(self._detokenizer.flush())
        self.stop_reason = self._stop.met
        return self._delta(text if self.stopped else text + self._stop.flush(), last=not self.stopped)

    def _pass(self, ids: Sequence[int]) -> str:
        """The text of tokens, up to what ends it. The count of tokens does not depend on how they were batched."""
        text = ""
        singly = self._stop or self._stop_ids or self._named
        for batch in [[token] for token in ids] if singly else [ids]:
            self._count(batch)
            if self._last in self._stop_ids:
                return text + self._stop_at(self._last)
            if self._named and self._last in self._end_ids:
                break  # its name is no part of the answer
            fresh, self.stopped = self._stop.feed(self._detokenizer.feed(batch))
            text += fresh
            if self.stopped:
                self.stop_reason = self._stop.met
                break
        return text

    def _stop_at(self, token: int) -> str:
        """The text that is left to show where a stop token ends an answer."""
        kept = self._detokenizer.feed([token]) if self._keep_stop else ""
        text, met = self._stop.feed(kept + self._detokenizer.flush())
        self.stopped = True
        self.stop_reason = self._stop.met if met else self._stop_ids[token]
        return text if met else text + self._stop.flush()

    def _follow(self, tokens: TokenBatch, ending: Ending) -> str:
        """The text of tokens one by one, up to the last from which the answer can still be ended."""
        text = ""
        for i, token in enumerate(tokens.ids):
            mark = ending.mark()
            fresh = self._detokenizer.feed([token])
            # The engine's guide does not enforce long counts: an answer that exceeds one has left the grammar.
            if not ending.feed(fresh) or not self._fits(ending, self._max_tokens - self.generated - 1):
                ending.back(mark)
                return text + self._close(ending)
            self._count([token])
            self._note(TokenBatch([token], tokens.log_probs[i : i + 1], tokens.tops[i : i + 1]))
            text += fresh
        return text

    def _count(self, ids: Sequence[int]) -> None:
        self.generated += len(ids)
        self._last = ids[-1]
        if self._keep_ids:
            self._ids += ids

    def _close(self, ending: Ending) -> str:
        """End the answer here, in the shortest way."""
        closing = ending.shortest()
        ids = self._tokenizer.ids(closing)
        self.generated += len(ids)
        self._ids += ids if self._keep_ids else ()
        self._cut = True
        return closing

    def _fits(self, ending: Ending, tokens: int) -> bool:
        """Whether the answer can still be ended within this many tokens."""
        # A token is at least one byte, and a character at most four: usually there is nothing to count.
        if ending.left * 4 <= tokens:
            return True
        if ending.left > MAX_SHORTEST:
            return False
        closing = ending.shortest()
        if closing != self._counted[0]:
            self._counted = closing, self._tokenizer.count(closing)
        return self._counted[1] <= tokens

    def _note(self, tokens: TokenBatch) -> None:
        """Record where in the text each token with a score begins."""
        tops = tokens.tops or repeat(())
        for token, log_prob, top in zip(tokens.ids, tokens.log_probs, tops):  # noqa: B905  the last may be endless
            if self._score_ends or token not in self._end_ids:
                self._scores.append((self._made, TokenScore(token, log_prob, top)))
            self._made += len(self._tokenizer.token_bytes(token, named=self._named))

    def _delta(self, text: str, last: bool = False) -> TextDelta | None:
        if not self._scores:
            return TextDelta(text, ids=self.take_ids()) if text else None
        self._shown += len(text.encode())
        scores = []
        while self._scores and (last or self._scores[0][0] < self._shown):
            scores.append(self._scores.popleft()[1])
        return TextDelta(text, scores, self.take_ids()) if text or scores else None
