"""The step loop: one thread that admits requests, advances the batch, and sends what came out.

One thread, because `ContinuousBatchingPipeline.step` holds Python's global lock (measured with OpenVINO
GenAI 2026.4.1: another thread runs once in a step of 280 ms), so a second one would get its turns only
between steps, where this one sends. Sending is bounded instead: after each step, for at most as long as
the step took. Tokens of a stream whose turn has not come are merged into its next response, so more
streams, or a slower network, make fuller responses and never a slower engine. A turn comes no sooner than the
stream's pace after the one before: a response costs the engine, Triton and the gateway some 550 µs of the cores that
the engine computes on. One stream alone gets each token at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import openvino_genai as genai
from generation import GenerationRequest
from sequence import Sequence

# Before what is wrong with a request: all that has it not is the engine's fault (triton/wire/complaint.py).
INVALID = "invalid request: "
# Below this a step is too short to send anything worth the switch.
SHORTEST_TURN_S = 0.0005
REPORT_S = 1.0
# Seconds between two responses of a stream for each stream that runs, so that all responses together take a third of a
# core; and at most, which is 66 streams: text still moves ten times a second.
PACE_S = 0.0015
SLOWEST_PACE_S = 0.1


class Reply(Protocol):
    """Where a request's responses go. `send` raises when Triton has dropped the request."""

    def send(self, piece: Piece, final: bool) -> None: ...

    def refuse(self, message: str) -> None: ...

    def fail(self, message: str) -> None: ...

    def is_cancelled(self) -> bool: ...


@dataclass
class Piece:
    """Tokens of one sequence that go into one response."""

    index: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    cum_log_prob: float = 0.0
    finished: bool = False


@dataclass
class Stream:
    """A request under way: its sequences, and for each the tokens that are still to be sent."""

    request: GenerationRequest
    reply: Reply
    name: str
    sequences: list[Sequence]
    pieces: list[Piece]
    queued: bool = False
    cancelled: bool = False
    due: float = 0.0
    """When its next response may be sent; the last one may be at any time."""

    @property
    def finished(self) -> bool:
        return all(sequence.finished for sequence in self.sequences)

    @property
    def awaits_guide(self) -> bool:
        """The engine has yet to take up its guide."""
        return self.request.guide is not None and not all(sequence.begun for sequence in self.sequences)


class Batcher:
    """Owns the pipeline. `submit` may be called from any thread; everything else runs in the loop's own."""

    def __init__(
        self,
        pipeline: genai.ContinuousBatchingPipeline,
        cancellation_check_s: float,
        log_error: Callable[[str], None],
        report: Callable[[int, int, float], None],
    ) -> None:
        """`report` is told now and then, and at each request's end, how many steps were made, how many requests run
        and what of the KV cache is used."""
        self._pipeline = pipeline
        self._cancellation_check_s = cancellation_check_s
        self._log_error = log_error
        self._report = report
        self._steps = 0
        self._reported = (0, 0.0)
        self._wake = threading.Condition()
        self._arrived: deque[Stream] = deque()
        self._running: list[Stream] = []
        self._sendable: deque[Stream] = deque()
        self._stopped: set[str] = set()
        self._works: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._next_id = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="batcher")
        self._thread.start()

    def submit(self, request: GenerationRequest, reply: Reply, name: str) -> None:
        """Queue a request for the next step. `name` is the id that `stop` knows it by, "" for none."""
        count = range(request.sequences)
        stream = Stream(
            request,
            reply,
            name,
            sequences=[Sequence(request, request.seed + i) for i in count],
            pieces=[Piece(i) for i in count],
        )
        with self._wake:
            self._arrived.append(stream)
            self._wake.notify()

    def stop(self, name: str) -> None:
        """End the requests of that name before the next step, as if their clients had left."""
        with self._wake:
            self._stopped.add(name)
            self._wake.notify()

    def between_steps(self, work: Callable[[], None]) -> None:
        """Have something done by the loop while no guided request waits for its first token, and wait for it."""
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

    def _run(self) -> None:
        """The loop, which nothing outlives: an engine that failed keeps its broken requests, and would fail for ever.

        The end of this process ends Triton, and whoever watches over Triton starts it anew.
        """
        try:
            self._loop()
        except BaseException as error:
            self._log_error(f"The engine failed, and ends: {error!r}")
            with suppress(Exception):
                self._fail_all("The engine failed in a step.")
            os._exit(1)

    def _loop(self) -> None:
        checked = 0.0
        while True:
            with self._wake:
                while not self._busy():
                    self._wake.wait()
                if self._closing:
                    break
            self._admit()
            started = time.monotonic()
            if self._stopped or started - checked >= self._cancellation_check_s:
                self._drop_cancelled()
                checked = started
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            took = time.monotonic() - started
            self._steps += 1
            self._collect()
            self._send(time.monotonic() + max(took, SHORTEST_TURN_S))
            self._tell()
            self._work()
        self._fail_all("The server is stopping.")

    def _busy(self) -> bool:
        # The pipeline is asked too: it frees the KV cache of a cancelled sequence in one more step.
        return bool(
            self._closing
            or self._arrived
            or self._sendable
            or self._works
            or self._pipeline.has_non_finished_requests()
        )

    def _work(self) -> None:
        if not self._works or any(stream.awaits_guide for stream in (*self._arrived, *self._running)):
            return
        while self._works:
            work, done = self._works.popleft()
            work()
            done.set()

    def _admit(self) -> None:
        while self._arrived:
            stream = self._arrived.popleft()
            try:
                for sequence in stream.sequences:
                    self._enter(sequence)
            except RuntimeError as error:
                for sequence in stream.sequences:
                    sequence.cancel()
                stream.reply.fail(f"The engine refused the request: {error}")
            else:
                self._running.append(stream)

    def _enter(self, sequence: Sequence) -> None:
        sequence.submit(self._pipeline, self._next_id)
        self._next_id += 1

    def _drop_cancelled(self) -> None:
        stopped, self._stopped = self._stopped, set()
        for stream in self._streams():
            if (stream.name and stream.name in stopped) or stream.reply.is_cancelled():
                stream.cancelled = True
                for sequence in stream.sequences:
                    sequence.cancel()
                stream.reply.fail("The request was cancelled.")
        self._running = [stream for stream in self._running if not stream.cancelled]
        self._sendable = deque(stream for stream in self._sendable if not stream.cancelled)

    def _collect(self) -> None:
        """Take what the step produced into each stream's pieces."""
        done = False
        for stream in self._running:
            fresh = False
            for sequence, piece in zip(stream.sequences, stream.pieces, strict=True):
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
                    stream.cancelled = done = True
                    stream.reply.refuse("The prompt does not fit the KV cache: enlarge the cache or shorten it.")
                    break
            if stream.cancelled:
                continue
            finished = stream.finished
            done |= finished
            if fresh and not stream.queued and (stream.request.streaming or finished):
                stream.queued = True
                self._sendable.append(stream)
        if done:
            self._running = [s for s in self._running if not (s.finished or s.cancelled)]

    def _send(self, until: float) -> None:
        """Send merged pieces of the streams that are due, the longest waiting first, until the turn is over."""
        now = time.monotonic()
        pace = min(PACE_S * len(self._running), SLOWEST_PACE_S)
        early = []
        while self._sendable and time.monotonic() < until:
            stream = self._sendable.popleft()
            finished = stream.finished
            if now < stream.due and not finished:
                early.append(stream)
                continue
            stream.queued = False
            stream.due = now + pace
            ready = [p for p in stream.pieces if p.tokens or p.finished]
            if not stream.request.streaming:
                ready = stream.pieces
            stream.pieces = [Piece(p.index) for p in stream.pieces]
            try:
                for piece in ready:
                    stream.reply.send(piece, final=finished and piece is ready[-1])
            except Exception as error:
                self._log_error(f"A response could not be sent: {error}")
                for sequence in stream.sequences:
                    sequence.cancel()
                stream.cancelled = True
                self._running = [s for s in self._running if s is not stream]
        self._sendable.extendleft(reversed(early))

    def _streams(self) -> list[Stream]:
        """All that were admitted and have not had their last response."""
        return self._running + [stream for stream in self._sendable if stream.finished]

    def _tell(self) -> None:
        active, now = len(self._running), time.monotonic()
        if active != self._reported[0] or now - self._reported[1] >= REPORT_S:
            self._reported = active, now
            self._report(self._steps, active, self._pipeline.get_metrics().cache_usage if active else 0.0)

    def _fail_all(self, message: str) -> None:
        for _, done in self._works:
            done.set()
        for stream in (*self._arrived, *self._streams()):
            for sequence in stream.sequences:
                sequence.cancel()
            stream.reply.fail(message)
        self._arrived.clear()
        self._running.clear()
        self._sendable.clear()
