"""Detects whether an engine, or a Triton that is loading, hangs: by signs that only their own work can produce."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bento_trtllm.triton.process.activity import Activity

LOOKS = 3
"""How often the engine is checked, at least, after it was probed: if this very process was stopped, the clock says
nothing about the engine."""
BUSY = 0.05
"""Cores that a working Triton uses at least, even on a busy machine; idle, it used 0.00 over 10 s."""
READS = 64 * 1024
"""Bytes a second, likewise."""


@dataclass(frozen=True)
class Vitals:
    """The signs of life of an engine that may hang."""

    iterations: Callable[[], Awaitable[float | None]]
    """How many steps its loop has made; None if unknown."""
    answers: Callable[[], Awaitable[bool]]
    """Sends a probe and waits for its answer; False if something in front of the engine refuses it."""
    activity: Callable[[], Awaitable[Activity]]


async def hangs(engine: Vitals, pause_s: float, limit_s: float, step_limit_s: float) -> bool:
    """Whether the engine makes no step and answers no probe for `limit_s` after it was probed; False as soon as it does
    either.

    While it computes on the CPU the limit is `step_limit_s`: a step is one call, and with a large model on few cores it
    may take many seconds.
    """
    began = time.monotonic()
    before, active = await engine.iterations(), await engine.activity()
    answer: asyncio.Task[bool] | None = None
    looks = 0
    try:
        while True:
            await asyncio.sleep(min(pause_s, limit_s / 4))
            now = await engine.iterations()
            if before is None:
                before = now
            elif now is not None and now != before:
                return False
            passed_s = time.monotonic() - began
            if answer is None:
                # Not at once: an engine that makes steps, however slowly, is not probed.
                if passed_s >= limit_s / 4:
                    answer = asyncio.ensure_future(engine.answers())
                    # From here on: until now it may have had nothing to do.
                    began, active = time.monotonic(), await engine.activity()
                continue
            if answer.done() and answer.result():
                return False
            looks += 1
            if looks < LOOKS or passed_s < limit_s:
                continue
            if passed_s >= step_limit_s:
                return True
            if (await engine.activity()).cpu_s - active.cpu_s < BUSY * passed_s:
                return True
    finally:
        if answer:
            answer.cancel()


class LoadWatch:
    """For how long a loading Triton has made no progress: no work, no reading, no log line."""

    def __init__(self) -> None:
        self._moved_at = self._looked_at = time.monotonic()
        self._last = (Activity(0, 0), 0)

    def look(self, activity: Activity, lines: int) -> float:
        """Take the totals so far; returns the seconds since there was any progress."""
        now = time.monotonic()
        (before, lines_before), self._last = self._last, (activity, lines)
        passed_s, self._looked_at = now - self._looked_at, now
        moved = (
            lines != lines_before
            # `abs`, since the totals shrink when a process ends.
            or abs(activity.cpu_s - before.cpu_s) >= BUSY * passed_s
            or abs(activity.read_bytes - before.read_bytes) >= READS * passed_s
        )
        if moved:
            self._moved_at = now
        return now - self._moved_at
