"""How many requests are served at once, how many may wait, and when no more are taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bento_trtllm.api.errors import APIError, unavailable


class Admission:
    """Slots in one worker: `running` at once, `waiting` more in line; whoever comes then is turned away."""

    def __init__(self, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._room = running + waiting
        self._limit = running
        self._inside = 0
        self.changed: Callable[[], None] = lambda: None
        """Called when `running` or `waiting` has changed."""
        self._draining = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return min(self._inside, self._limit)

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return max(self._inside - self._limit, 0)

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._draining.is_set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait in line for a slot. Raises APIError: 429 if the line is full, 503 while draining."""
        if self.draining:
            raise unavailable("The server is stopping.", retry_after_s=10)
        if self._inside >= self._room:
            raise APIError(
                429,
                "overloaded",
                f"The server is busy with {self._inside} requests and takes no more: try again in a second.",
                {"Retry-After": "1"},
            )
        self._inside += 1
        self._empty.clear()
        self.changed()
        try:
            async with self._slots:
                yield
        finally:
            self._inside -= 1
            self.changed()
            if not self._inside:
                self._empty.set()

    def drain(self) -> None:
        """Take no more requests; those inside go on."""
        self._draining.set()

    async def emptied(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()
