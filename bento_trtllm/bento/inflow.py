"""Requests that were read, and are begun a few at a time.

A request costs little to read, but much to answer. uvicorn begins to answer all that it read in one turn of the event
loop: when many come at once, these are hundreds, and what comes meanwhile, a probe say, is not read before all of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context

BEGUN = 8
"""Requests that are begun in a turn."""


class Inflow:
    """Those that are not begun, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Context, Callable[[], None]]] = deque()
        self._begun = 0

    def begin(self, start: Callable[[], None]) -> None:
        """Call it now, or in the turn of the event loop that has room for it."""
        if self._waiting or self._begun >= BEGUN:
            self._waiting.append((copy_context(), start))
        else:
            self._count()
            start()

    def _count(self) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._begun += 1

    def _next_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < BEGUN:
            context, start = self._waiting.popleft()
            self._count()
            context.run(start)
