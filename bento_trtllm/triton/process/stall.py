"""Whether an engine stands still, and whether a Triton that loads does: by what only their own work can move."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bento_trtllm.triton.process.activity import Activity

LOOKS = 3
"""So often at least the engine is looked at after it was asked: if this very process was stopped, the clock says
nothing of the engine."""
BUSY = 0.05
"""Cores that a Triton takes at least while it works, on a machine with much else to do; idle, it took 0.00 in 10 s."""
READS = 64 * 1024
"""Bytes a second, likewise."""


@dataclass(frozen=True)
class Vitals:
    """What can be asked of an engine that may stand still."""

    iterations: Callable[[], Awaitable[float | None]]
    """How many steps its loop has made; None where it does not say."""
    answers: Callable[[], Awaitable[bool]]
    """Has it answer the least of requests; False if it is refused by those who stand before the engine."""
    activity: Callable[[], Awaitable[Activity]]


async def stands_still(engine: Vitals, pause_s: float, limit_s: float, step_limit_s: float) -> bool:
    """Whether the engine makes no step and answers nothing for `limit_s`; False as soon as it does.

    While it computes on the CPU it has `step_limit_s`: a step is one call, and with a large model on few cores it
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
                # Not at once: an engine that makes its steps, however slowly, is not asked.
                if passed_s >= limit_s / 4:
                    answer = asyncio.ensure_future(engine.answers())
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
    """For how long a Triton that loads has done nothing at all: no work, no reading, no line of its log."""

    def __init__(self) -> None:
        self._moved_at = self._looked_at = time.monotonic()
        self._last = (Activity(0, 0), 0)

    def look(self, activity: Activity, lines: int) -> float:
        """Take what was done until now, all in all; returns the seconds since anything was done."""
        now = time.monotonic()
        (before, lines_before), self._last = self._last, (activity, lines)
        passed_s, self._looked_at = now - self._looked_at, now
        moved = (
            lines != lines_before
            # Less than before: a process of it has ended.
            or abs(activity.cpu_s - before.cpu_s) >= BUSY * passed_s
            or abs(activity.read_bytes - before.read_bytes) >= READS * passed_s
        )
        if moved:
            self._moved_at = now
        return now - self._moved_at
