"""The Executor: executionLoop of executorImpl.cpp (1.3.0rc3), one thread, an iteration a token of all requests.

Its order is upstream's: cancelled requests end, what the last step made is answered, new requests are fetched, the
next step runs, and the iteration is counted. So nothing of this goes on while a step hangs. The Executor of 0.10.0 is
closed, and said to be the same.
"""

from __future__ import annotations

import itertools
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from checks import Limits, check_decoded, check_fetched
from door import Door
from source import Order, Source, Tokens, order
from tensors import Request


@dataclass
class Result:
    """executor::Result of one sequence. Tokens are the new ones (streaming) or all of them."""

    tokens: list[int]
    log_probs: list[float] | None
    """All so far."""
    cum_log_prob: float | None
    sequence: int
    final: bool
    """Whether it is the last of its request."""


@dataclass(frozen=True)
class Response:
    """executor::Response."""

    id: int
    result: Result | None = None
    error: str = ""


@dataclass
class Made:
    """What a sequence has made, and how much of it was answered."""

    tokens: Tokens
    ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    cum_log_prob: float = 0.0
    sent: int = 0
    finished: bool = False
    answered: bool = False


@dataclass
class Active:
    """An LlmRequest, with those that it has for several sequences."""

    id: int
    request: Request
    order: Order
    made: list[Made]
    decoded: bool = False


@dataclass(frozen=True)
class Stats:
    """executor::IterationStats, as far as the metrics tell of it."""

    iteration: int
    active: int
    scheduled: int
    context: int
    context_tokens: int
    kv_used: float
    """In percent."""


class Executor:
    """`respond` is called with each response, from the loop's thread."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        door: Door,
        normalize_log_probs: bool,
        respond: Callable[[Response], None],
        log_error: Callable[[str], None],
    ) -> None:
        self._source, self._limits, self._door = source, limits, door
        self._normalize = normalize_log_probs
        self._respond, self._log_error = respond, log_error
        self._wake = threading.Condition()
        self._queued: deque[tuple[int, Request]] = deque()
        self._cancelled: set[int] = set()
        self._active: list[Active] = []
        self._ids = itertools.count(1)
        self._iteration = 0
        self._shutdown = False
        self.stats = deque[Stats](maxlen=1000)  # kDefaultIterStatsMaxIterations (executor.h)
        self._thread = threading.Thread(target=self._loop, name="executionLoop")
        self._thread.start()

    def enqueue(self, requests: Sequence[Request], known: Callable[[list[int]], None]) -> None:
        """Queue requests; `known` gets their ids before the first response can come."""
        with self._wake:
            ids = [next(self._ids) for _ in requests]
            known(ids)
            self._queued.extend(zip(ids, requests, strict=True))
            self._wake.notify()

    def cancel(self, request: int) -> None:
        """End a request before the next iteration; its last response says no error."""
        with self._wake:
            self._cancelled.add(request)

    def close(self) -> None:
        with self._wake:
            self._shutdown = True
            self._wake.notify()
        self._thread.join()

    def _loop(self) -> None:
        try:
            self._iterate()
        except BaseException:
            traceback.print_exc()
            os.abort()

    def _iterate(self) -> None:
        while self._active or not self._shutdown:
            if self._active:
                self._terminate_cancelled()
                self._guarded("forwardSync", self._sync)
                self._answer()
                if not self._active:
                    self._count(0)
            self._fetch()
            if self._active:
                context = [each for each in self._active if not each.decoded]
                self._guarded("forwardAsync", self._step)
                self._iteration += 1
                self._count(len(self._active), context)

    def _guarded(self, function: str, run: Callable[[], None]) -> None:
        """An error in a step ends all requests under way, and the loop goes on."""
        try:
            run()
        except RuntimeError as error:
            text = f"Encountered an error in {function} function: {error}"
            self._log_error(f"[TensorRT-LLM][ERROR] {text}")
            for active in self._active:
                self._leave(active)
                self._respond(Response(active.id, error=text))
            self._active.clear()

    def _sync(self) -> None:
        for active in self._active:
            for made in active.made:
                if not made.finished:
                    self._read(active, made)
        self._door.step("forwardSync", self._most())

    def _read(self, active: Active, made: Made) -> None:
        ids, scores = made.tokens.read()
        if made.tokens.finished and ids and ids[-1] == active.request.end_id:
            # The sequence does not grow by its end token, nor do its log probabilities (samplingTopKKernels.cu:314).
            made.cum_log_prob += sum(scores[-1:])
            ids, scores = ids[:-1], scores[:-1]
        made.ids += ids
        if self._normalize and not active.order.sampled:
            scores = [0.0] * len(scores)  # of the one candidate that is left (samplingTopKKernels.cu:285)
        made.scores += scores
        made.cum_log_prob += sum(scores)
        made.finished = made.tokens.finished
        if made.tokens.refused:
            raise RuntimeError("the stand-in's KV cache is too small")
        if made.tokens.outdated:
            made.tokens.cancel()
            self._source.enter(made.tokens)

    def _answer(self) -> None:
        for active in self._active:
            for index, made in enumerate(active.made):
                if not made.answered and (made.finished or (active.request.streaming and len(made.ids) > made.sent)):
                    made.answered = made.finished
                    self._respond(Response(active.id, self._result(active, index, made)))
        self._active = [each for each in self._active if not all(made.answered for made in each.made)]

    def _result(self, active: Active, index: int, made: Made) -> Result:
        request = active.request
        ids = made.ids[made.sent :]
        made.sent = len(made.ids)
        if not request.streaming and not request.exclude_input:
            ids = [*request.input_ids, *made.ids]
        log_probs = request.flags["return_log_probs"]
        return Result(
            tokens=ids,
            log_probs=list(made.scores) if log_probs else None,
            cum_log_prob=made.cum_log_prob if log_probs else None,
            sequence=index,
            final=all(each.answered for each in active.made),
        )

    def _terminate_cancelled(self) -> None:
        with self._wake:
            cancelled = self._cancelled & {active.id for active in self._active}
            self._cancelled -= cancelled
        for active in self._active:
            if active.id in cancelled:
                self._leave(active)
                for made in active.made:
                    made.finished = True

    def _leave(self, active: Active) -> None:
        for made in active.made:
            made.tokens.cancel()

    def _fetch(self) -> None:
        pipeline = self._source.pipeline
        with self._wake:
            while not (self._active or self._queued or self._shutdown):
                if pipeline.has_non_finished_requests():  # it frees what was cancelled in a step more
                    break
                self._wake.wait()
            queued = [self._queued.popleft() for _ in range(self._room())]
        if not (self._active or queued) and pipeline.has_non_finished_requests():
            pipeline.step()
        for request_id, request in queued:
            try:
                self._door.step("fetch", 0)
                wanted = check_fetched(request, self._limits)
            except RuntimeError as error:
                text = f"Encountered an error when fetching new request: {error}"
                self._log_error(f"[TensorRT-LLM][ERROR] {text}")
                self._respond(Response(request_id, error=text))
                continue
            what = order(request, wanted, self._limits)
            made = [Made(Tokens(what, what.seed + i)) for i in range(request.sequences)]
            self._active.append(Active(request_id, request, what, made))

    def _room(self) -> int:
        return max(0, min(len(self._queued), self._limits.max_batch_size - len(self._active)))

    def _step(self) -> None:
        for active in self._active:
            if not active.decoded:
                active.decoded = True
                check_decoded(active.request, self._limits)
                for made in active.made:
                    self._source.enter(made.tokens)
        self._door.step("forwardAsync", self._most())
        if self._source.pipeline.has_non_finished_requests():
            self._source.step()

    def _most(self) -> int:
        return max((len(made.ids) for active in self._active for made in active.made), default=0)

    def _count(self, active: int, context: Sequence[Active] = ()) -> None:
        self.stats.append(
            Stats(
                iteration=self._iteration,
                active=active,
                scheduled=active,
                context=len(context),
                context_tokens=sum(len(each.request.input_ids) for each in context),
                kv_used=self._source.used if active else 0.0,
            )
        )
