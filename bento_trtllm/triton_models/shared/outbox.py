"""What the engine has made and Triton has not been given yet: sent at each stream's pace, in turns that are bounded.

Tokens of a stream whose turn has not come are merged into its next response, so more streams, or a slower network, make
fuller responses and never a slower engine.

A send mostly waits for Triton's process, without Python's lock: where there are cores for it, a few threads send at a
time, each another request's, and whoever called waits for them all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from pacing import Pace

# Eight send no faster, and with few cores others would take them from the engine.
THREADS = 4
ENOUGH_CORES = 8


def sending_threads(cores: int) -> int:
    """How many threads are to send where there are so many cores, the caller's own among them."""
    return THREADS if cores >= ENOUGH_CORES else 1


@dataclass
class Scores:
    """For each of some tokens: its log probability and rank (1 is the likeliest), and the likeliest tokens at its
    place."""

    log_probs: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    top_ids: list[list[int]] = field(default_factory=list)
    top_log_probs: list[list[float]] = field(default_factory=list)

    def add(self, other: Scores) -> None:
        """Append those of the tokens that follow."""
        self.log_probs += other.log_probs
        self.ranks += other.ranks
        self.top_ids += other.top_ids
        self.top_log_probs += other.top_log_probs


@dataclass
class Piece:
    """Tokens of one sequence that go into one response; `scores` of these, `prompt` of some of the prompt's.

    `cached_tokens` is how many of the prompt's tokens were in the KV cache before, -1 where that is not told.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    scores: Scores | None = None
    prompt: Scores | None = None
    cum_log_prob: float = 0.0
    cached_tokens: int = -1
    finished: bool = False


class Sender(Protocol):
    """A request's responses: reply.Reply."""

    def send(self, piece: Piece, final: bool) -> None: ...


class Outgoing:
    """The tokens of one request that are still to be sent: a piece for each of its sequences."""

    def __init__(self, reply: Sender, sequences: int, streaming: bool) -> None:
        self.reply = reply
        self.streaming = streaming
        self.pieces = [Piece(i) for i in range(sequences)]
        self.finished = False
        """No further tokens will come."""
        self.queued = False
        self.due = 0.0
        """When its next response may be sent, by time.monotonic; the last one may be at any time."""

    def take(self) -> list[Piece]:
        """What goes into the next responses: all at once where the request is not streamed."""
        ready = [piece for piece in self.pieces if piece.tokens or piece.finished] if self.streaming else self.pieces
        self.pieces = [Piece(piece.index) for piece in self.pieces]
        return ready


class Outbox:
    """The requests that have something to send, the longest waiting first."""

    def __init__(self, pace: Pace, failed: Callable[[Outgoing, Exception], None], threads: int = 1) -> None:
        """`failed` is told of a request whose response could not be sent, by the thread that called `send`."""
        self._pace = pace
        self._failed = failed
        self._waiting: deque[Outgoing] = deque()
        self._others = ThreadPoolExecutor(threads - 1, "sends") if threads > 1 else None
        self._threads = threads

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, outgoing: Outgoing) -> None:
        """Tokens were made for a request, or it has finished."""
        if not outgoing.queued and (outgoing.streaming or outgoing.finished):
            outgoing.queued = True
            self._waiting.append(outgoing)

    def drop(self, outgoing: Outgoing) -> None:
        """Send nothing more of a request."""
        if outgoing.queued:
            self._waiting.remove(outgoing)
            outgoing.queued = False

    def clear(self) -> None:
        self._waiting.clear()

    def send(self, streams: int, until: float) -> None:
        """Send for the requests that are due until the turn is over; `streams` of them are running."""
        now = time.monotonic()
        next_due = now + self._pace.gap_s(streams)
        due = deque(each for each in self._waiting if each.finished or now >= each.due)
        begun = []
        if self._others:
            begun = [
                self._others.submit(_send_due, due, next_due, until) for _ in range(min(self._threads, len(due)) - 1)
            ]
        lost = _send_due(due, next_due, until)
        for other in begun:
            # One that has not begun by now has nothing left to do.
            if not other.cancel():
                lost += other.result()
        self._waiting = deque(each for each in self._waiting if each.queued)
        for outgoing, error in lost:
            self._failed(outgoing, error)

    def close(self) -> None:
        """End the threads; no `send` may be under way, nor follow."""
        if self._others:
            self._others.shutdown()


def _send_due(due: deque[Outgoing], next_due: float, until: float) -> list[tuple[Outgoing, Exception]]:
    """Send for one after another of `due`, from which other threads take theirs. Returns what could not be sent."""
    lost = []
    while due and time.monotonic() < until:
        try:
            outgoing = due.popleft()
        except IndexError:  # another thread has taken the last
            break
        outgoing.queued = False
        outgoing.due = next_due
        ready = outgoing.take()
        try:
            for piece in ready:
                outgoing.reply.send(piece, final=outgoing.finished and piece is ready[-1])
        except Exception as error:
            lost.append((outgoing, error))
    return lost
