"""Work that is done a little in each turn of the event loop.

What has come for hundreds of clients at once would else be done in one turn, and what comes meanwhile, a probe say,
would wait for all of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context


class Turns:
    """Work of one kind, of which no more than `most` pieces are begun in a turn: in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = 0
        self._waiting: deque[tuple[Context, Callable[[], None]]] = deque()

    def begin(self, start: Callable[[], None]) -> None:
        """Call it now, or in the turn that has room for it."""
        if self._waiting or self._begun >= self._most:
            self._waiting.append((copy_context(), start))
        else:
            self._count()
            start()

    async def room(self) -> None:
        """Return in a turn that has room for what comes next."""
        if self._waiting or self._begun >= self._most:
            room = asyncio.Event()
            self._waiting.append((copy_context(), room.set))
            await room.wait()
        else:
            self._count()

    def _count(self) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next)
        self._begun += 1

    def _next(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._most:
            context, start = self._waiting.popleft()
            self._count()
            context.run(start)
