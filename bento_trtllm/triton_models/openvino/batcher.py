"""The step loop: one thread that admits requests, advances the batch, and has sent what came out.

One thread, because `ContinuousBatchingPipeline.step` holds Python's global lock (measured with OpenVINO
GenAI 2026.4.1: another thread runs once in a step of 280 ms), so a second one would get its turns only
between steps, where this one sends. Sending is bounded instead: after each step, for at most as long as
the step took (outbox.py).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import openvino_genai as genai
from active import ActiveRequest
from cores import cores
from faults import FAILED, GONE, INVALID_REQUEST, UNAVAILABLE, Fault
from gathering import Gathering
from outbox import Outbox, Outgoing, sending_threads
from pacing import Pace, check_gap_s
from reply import Reply
from request import EngineRequest
from room import Room
from sequence import Sequence

# Below this a step is too short to send anything worth the switch.
SHORTEST_TURN_S = 0.0005
REPORT_S = 1.0
ASK_ALL_S = 1.0
"""How often Triton is asked of clients that would say so themselves if they left: whoever was to say it may be gone."""
NO_ROOM = Fault(
    INVALID_REQUEST, "The prompt does not fit the KV cache: enlarge the cache or shorten it.", tensor="input_ids"
)


class Batcher:
    """Owns the pipeline. `submit` may be called from any thread; everything else runs in the loop's own."""

    def __init__(
        self,
        pipeline: genai.ContinuousBatchingPipeline,
        cancellation_check_s: float,
        pace: Pace,
        log_error: Callable[[str], None],
        report: Callable[[int, int, float], None],
        room: Room,
        gathering: Gathering,
        guessed: int,
    ) -> None:
        """`report` is told now and then, and at each request's end, how many steps were made, how many requests run
        and what of the KV cache is used. `guessed` is for `Sequence.submit`."""
        self._pipeline = pipeline
        self._room = room
        self._gathering = gathering
        self._guessed = guessed
        self._cancellation_check_s = cancellation_check_s
        self._log_error = log_error
        self._report = report
        self._steps = 0
        self._reported = (0, 0.0)
        self._wake = threading.Condition()
        self._arrived: deque[ActiveRequest] = deque()
        self._running: list[ActiveRequest] = []
        self._ending: list[ActiveRequest] = []
        """They have finished, and their last responses are still to be sent."""
        self._outbox = Outbox(pace, self._unsent, sending_threads(cores()))
        self._left = False
        """Somebody has said that they left."""
        self._ask_at = self._ask_all_at = 0.0
        self._works: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._next_id = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="batcher")
        self._thread.start()

    def submit(self, request: EngineRequest, reply: Reply) -> None:
        """Queue a request for the next step."""
        active = ActiveRequest.of(request, reply)
        with self._wake:
            self._arrived.append(active)
            self._left = self._left or reply.left
            self._wake.notify()

    def look(self) -> None:
        """End the requests whose clients have said that they left, before the next step."""
        with self._wake:
            self._left = True
            self._wake.notify()

    def between_steps(self, work: Callable[[], None]) -> None:
        """Have the loop do something while no guided request waits for its first token, and wait until it is done."""
        done = threading.Event()
        with self._wake:
            self._works.append((work, done))
            self._wake.notify()
        done.wait()

    def close(self) -> None:
        """Cancel what is under way and end the loop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._outbox.close()

    def _run(self) -> None:
        """The loop, with which the process ends: an engine that failed keeps its broken requests, and would fail for
        ever.

        The end of this process ends Triton, and whoever watches over Triton starts it anew.
        """
        try:
            self._loop()
        except BaseException as error:
            self._log_error(f"The engine failed, and ends: {error!r}")
            with suppress(Exception):
                self._end_all(Fault(FAILED, "The engine failed in a step."))
            os._exit(1)

    def _loop(self) -> None:
        while True:
            with self._wake:
                rested = not self._busy()
                while not self._busy():
                    self._wake.wait()
                if rested:
                    self._gather()
                if self._closing:
                    break
            self._admit()
            started = time.monotonic()
            self._drop_left(started)
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            took = time.monotonic() - started
            if rested and self._running:
                self._gathering.learn(_prompt_tokens(self._running), took)
            self._steps += 1
            self._room.stepped()
            self._collect()
            self._outbox.send(len(self._running), time.monotonic() + max(took, SHORTEST_TURN_S))
            self._ending = [active for active in self._ending if active.outgoing.queued]
            self._tell()
            self._work()
        self._end_all(Fault(UNAVAILABLE, "The server is stopping."))

    def _busy(self) -> bool:
        # The pipeline is asked too: it frees the KV cache of a cancelled sequence in one more step.
        return bool(
            self._closing or self._arrived or self._outbox or self._works or self._pipeline.has_non_finished_requests()
        )

    def _gather(self) -> None:
        """Wait for those that come with the first; with `_wake` held."""
        began, seen = time.monotonic(), 0
        while len(self._arrived) > seen and not self._closing:
            seen = len(self._arrived)
            if left_s := self._gathering.left_s(_prompt_tokens(self._arrived), time.monotonic() - began):
                self._wake.wait(left_s)

    def _work(self) -> None:
        if not self._works or any(active.awaits_guide for active in (*self._arrived, *self._running)):
            return
        while self._works:
            work, done = self._works.popleft()
            work()
            done.set()

    def _admit(self) -> None:
        while self._arrived:
            active = self._arrived[0]
            if not self._room.ever_fits(active.request):
                active.drop(NO_ROOM)
            elif not self._room.fits(active.request, (each.request for each in self._running)):
                return
            self._arrived.popleft()
            if active.dropped:
                continue
            try:
                for sequence in active.sequences:
                    self._enter(sequence)
            except RuntimeError as error:
                active.drop(Fault(FAILED, f"The engine refused the request: {error}"))
            else:
                self._running.append(active)

    def _enter(self, sequence: Sequence) -> None:
        sequence.submit(self._pipeline, self._next_id, self._guessed)
        self._next_id += 1

    def _drop_left(self, now: float) -> None:
        """Drop those whose clients have left: as they said, or as Triton says, which is asked now and then."""
        ask, ask_all = now >= self._ask_at, now >= self._ask_all_at
        if not (self._left or ask or ask_all):
            return
        with self._wake:
            self._left = False
            arrived = tuple(self._arrived)
        for active in (*arrived, *self._running, *self._ending):
            reply = active.reply
            if reply.left or ((ask_all or (ask and not reply.name)) and reply.is_cancelled()):
                active.drop(GONE)
                self._outbox.drop(active.outgoing)
                self._room.leave(active.request)
        self._forget_dropped()
        if ask:
            self._ask_at = now + check_gap_s(self._cancellation_check_s, time.monotonic() - now)
        if ask_all:
            self._ask_all_at = now + ASK_ALL_S

    def _collect(self) -> None:
        """Take what the step produced into each request's pieces."""
        for active in self._running:
            fresh = False
            for sequence, piece in zip(active.sequences, active.outgoing.pieces, strict=True):
                if sequence.finished:
                    continue
                tokens, log_probs = sequence.read()
                if tokens or sequence.finished:
                    piece.tokens += tokens
                    piece.log_probs += log_probs
                    piece.cum_log_prob = sequence.log_prob
                    piece.finished = sequence.finished
                    fresh = True
                    if sequence.outdated:
                        sequence.cancel()
                        self._enter(sequence)
                elif sequence.refused:
                    active.drop(NO_ROOM)
                    self._outbox.drop(active.outgoing)
                    break
            if fresh and not active.dropped:
                active.outgoing.finished = active.finished
                self._outbox.put(active.outgoing)
        for active in self._running:
            if active.outgoing.finished or active.dropped:
                self._room.leave(active.request)
        self._ending += [active for active in self._running if active.outgoing.finished]
        self._running = [active for active in self._running if not (active.outgoing.finished or active.dropped)]

    def _unsent(self, outgoing: Outgoing, error: Exception) -> None:
        self._log_error(f"A response could not be sent: {error}")
        for active in self._running:
            if active.outgoing is outgoing:
                active.drop()
                self._room.leave(active.request)
        self._forget_dropped()

    def _forget_dropped(self) -> None:
        with self._wake:
            self._arrived = deque(active for active in self._arrived if not active.dropped)
        self._running = [active for active in self._running if not active.dropped]
        self._ending = [active for active in self._ending if not active.dropped]

    def _tell(self) -> None:
        active, now = len(self._running), time.monotonic()
        if active != self._reported[0] or now - self._reported[1] >= REPORT_S:
            self._reported = active, now
            self._report(self._steps, active, self._pipeline.get_metrics().cache_usage if active else 0.0)

    def _end_all(self, fault: Fault) -> None:
        for _, done in self._works:
            done.set()
        for active in (*self._arrived, *self._running, *self._ending):
            active.drop(fault)
        self._arrived.clear()
        self._running.clear()
        self._ending.clear()
        self._outbox.clear()


def _prompt_tokens(requests: Iterable[ActiveRequest]) -> int:
    return sum(len(each.request.prompt) for each in requests)
