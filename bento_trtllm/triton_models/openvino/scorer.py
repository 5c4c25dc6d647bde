"""Requests that want more scores than the pipeline gives: they are computed here, beside the batch.

The batch makes the answer, as any other; what it would send passes through a thread that feeds the same tokens to
scoring.py's model, some at a time and each request in its turn, and sends them on with their scores. A request that
wants its prompt's scores and no answer never meets the batch.

The model is compiled at the first such request, and costs its weights once more (of a pack in int8 or int4 somewhat
over its size), and for each of up to MOST_TEXTS requests at once the KV cache of its tokens. Others wait in a queue.
Where there is no memory for the model, requests are refused; the next may find some.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults import FAILED, GONE, INVALID_REQUEST, UNAVAILABLE, Fault
from outbox import Piece, Scores
from reply import Reply
from request import EngineRequest
from scoring import ScoredText, ScoringModel, missing_memory

# A prompt's tokens per turn: the logits of so many, f32, are held a few times over, 33 MB with a vocabulary of 128,256.
CHUNK = 64
MOST_TEXTS = 8
NICE = 10
"""Where cores are short the batch goes first."""


class ScoredReply(Reply):
    """Stands in a request's reply: the batch sends to it, from its own thread, and it hands on what was scored."""

    def __init__(self, request: EngineRequest, reply: Reply, wake: Callable[[], None]) -> None:
        self.request, self.reply, self.name = request, reply, reply.name
        self.prompt, self.input_tokens = reply.prompt, reply.input_tokens
        self.text: ScoredText | None = None
        self.ids: list[int] = request.prompt.tolist()
        self.fed = 0
        """Of `ids`, each of which is fed once the one behind it is known."""
        self.pieces: deque[tuple[Piece, bool]] = deque()
        """What the batch has sent, and whether it was the last."""
        self.kept = Scores()
        """Of the prompt, where all goes out at once."""
        self.fault: Fault | None = None
        self.over = False
        self._wake = wake

    def send(self, piece: Piece, final: bool) -> None:
        self.pieces.append((piece, final))
        self._wake()

    def end(self, fault: Fault | None = None) -> None:
        self.fault = fault or GONE
        self._wake()

    @property
    def left(self) -> bool:
        return self.over or self.reply.left

    def is_cancelled(self) -> bool:
        return self.over or self.reply.is_cancelled()

    @property
    def in_prompt(self) -> bool:
        """Whether tokens of the prompt are still to be fed."""
        return self.fed < len(self.request.prompt) - 1

    @property
    def ready(self) -> bool:
        """Whether there is something to do for it."""
        return bool(self.fault or self.in_prompt or self.pieces or not self.request.max_tokens)


class Scorer:
    """`take` and `look` may be called from any thread; the rest runs in its own, which nothing of the batch waits for.

    `log_error` is told of what fails.
    """

    def __init__(self, engine: Path, properties: Mapping[str, Any], log_error: Callable[[str], None]) -> None:
        self._engine, self._properties, self._log_error = engine, properties, log_error
        self._model: ScoringModel | None = None
        self._wake = threading.Condition()
        self._running: deque[ScoredReply] = deque()
        """The next in turn first."""
        self._texts: list[ScoredText] = []
        """That nobody has."""
        self._made = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="scores")
        self._thread.start()

    def take(self, request: EngineRequest, reply: Reply) -> ScoredReply:
        """Where the batch is to send."""
        scored = ScoredReply(request, reply, self._notify)
        with self._wake:
            self._running.append(scored)
            self._wake.notify()
        return scored

    def look(self) -> None:
        """End the requests whose clients have said that they left; the batch ends those that it has, too."""
        with self._wake:
            for scored in self._running:
                if scored.left:
                    scored.fault = GONE
            self._wake.notify()

    def close(self) -> None:
        """End the thread, and what is left."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        for scored in self._running:
            scored.reply.end(scored.fault or Fault(UNAVAILABLE, "The server is stopping."))

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._wake:
                while (scored := self._next()) is None and not self._closing:
                    self._wake.wait()
                if self._closing or scored is None:
                    return
            try:
                self._turn(scored)
            except Exception as error:
                self._log_error(f"Scores failed: {error!r}")
                self._finish(scored, Fault(FAILED, "The engine failed to score the request."))

    def _next(self) -> ScoredReply | None:
        """Whose turn it is: who has a text or can have one, in a row."""
        for _ in range(len(self._running)):
            scored = self._running[0]
            self._running.rotate(-1)
            if scored.ready and (scored.fault or scored.text or self._texts or self._made < MOST_TEXTS):
                return scored
        return None

    def _turn(self, scored: ScoredReply) -> None:
        if scored.fault or scored.reply.is_cancelled():
            self._finish(scored, scored.fault or GONE)
            return
        if self._model is None and (reason := missing_memory(self._engine)):
            # Linux would end the whole engine instead.
            tensor = "num_top_log_probs" if scored.request.top_log_probs else "num_prompt_log_probs"
            self._finish(scored, Fault(INVALID_REQUEST, reason, tensor))
            return
        scored.text = scored.text or self._text()
        if scored.in_prompt:
            self._feed_prompt(scored, scored.text)
        elif scored.pieces:
            self._feed_answer(scored, scored.text)
        else:
            scored.reply.send(Piece(0, prompt=scored.kept, finished=True), final=True)
            self._finish(scored)

    def _feed_prompt(self, scored: ScoredReply, text: ScoredText) -> None:
        top = scored.request.prompt_log_probs
        scores = self._feed(scored, text, len(scored.request.prompt) - 1, top or 0, scored=top is not None)
        if scored.request.streaming and scores.log_probs:
            scored.reply.send(Piece(0, prompt=scores), final=False)
        else:
            scored.kept.add(scores)

    def _feed_answer(self, scored: ScoredReply, text: ScoredText) -> None:
        """Score what the batch has sent since the last time."""
        top = scored.request.top_log_probs
        piece, final = scored.pieces.popleft()
        scored.ids += piece.tokens
        # Without alternatives the pipeline's own scores do.
        if top:
            scores = Scores()
            while scored.fed < len(scored.ids) - 1:
                scores.add(self._feed(scored, text, len(scored.ids) - 1, top, scored=True))
            piece.scores, piece.log_probs = scores, scores.log_probs
        piece.prompt = scored.kept if scored.kept.log_probs else None
        scored.kept = Scores()
        scored.reply.send(piece, final)
        if final:
            self._finish(scored)

    @staticmethod
    def _feed(item: ScoredReply, text: ScoredText, end: int, top: int, *, scored: bool) -> Scores:
        """Feed the next tokens before `end`."""
        begin = item.fed
        item.fed = min(begin + CHUNK, end)
        return text.feed(item.ids[begin : item.fed], item.ids[begin + 1 : item.fed + 1], top, scored=scored)

    def _text(self) -> ScoredText:
        if self._texts:
            return self._texts.pop()
        self._model = self._model or ScoringModel(self._engine, self._properties)
        self._made += 1
        return self._model.text()

    def _finish(self, scored: ScoredReply, fault: Fault | None = None) -> None:
        """It has had its last response, or gets an error as that."""
        scored.over = True
        with self._wake:
            self._running.remove(scored)
        if scored.text:
            scored.text.forget()
            self._texts.append(scored.text)
            scored.text = None
        if fault:
            with suppress(Exception):  # Triton may have dropped it
                scored.reply.end(fault)
