"""How many requests are served at once, how many may wait, for how long, and when no more are taken."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bento_trtllm.generation.errors import Draining, GenerationError, LineFull, WaitedTooLong


class Admission:
    """Slots in one worker: `running` at once, `waiting` more in line; whoever comes then is turned away.

    The line is kept here, and not by asyncio's Semaphore and wait_for: those of Python 3.10 and 3.11 can lose a
    slot, or a cancellation, when a slot comes in the moment in which the wait for it ends.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._limit = running
        self._longest_line = waiting
        self._running = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self.changed: Callable[[], None] = lambda: None
        """Called when `running` or `waiting` has changed."""
        self._draining = False

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._draining

    @asynccontextmanager
    async def slot(self, limit_s: float) -> AsyncIterator[None]:
        """Wait in line for a slot. Raises LineFull; Draining; and WaitedTooLong after `limit_s`, in seconds."""
        if self._draining:
            raise Draining()
        if self._running < self._limit:
            self._running += 1
            self.changed()
        else:
            await self._wait(limit_s)
        try:
            yield
        finally:
            self._pass_on()

    def drain(self) -> None:
        """Take no more requests; those inside go on."""
        self._draining = True

    def dissolve(self) -> None:
        """Turn away all who are in line, too."""
        self.drain()
        for place in tuple(self._line):
            self._turn_away(place, Draining())

    async def _wait(self, limit_s: float) -> None:
        """Return with a slot."""
        if len(self._line) >= self._longest_line:
            raise LineFull(
                f"The server is busy with {self._running + len(self._line)} requests and takes no more: "
                "try again in a second."
            )
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        late = WaitedTooLong(f"The server was busy with other requests for {limit_s:g} s: try again in a few seconds.")
        timer = loop.call_later(limit_s, self._turn_away, place, late)
        self._line.append(place)
        self.changed()
        try:
            await place
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
                self.changed()
            elif not place.cancelled() and place.exception() is None:  # its turn came as its client left
                self._pass_on()
            raise
        finally:
            timer.cancel()

    def _pass_on(self) -> None:
        """Give a slot to the next in line."""
        while self._line:
            place = self._line.popleft()
            if not place.done():  # else its client has left just now
                place.set_result(None)
                break
        else:
            self._running -= 1
        self.changed()

    def _turn_away(self, place: "asyncio.Future[None]", error: GenerationError) -> None:
        if not place.done():
            self._line.remove(place)
            place.set_exception(error)
            self.changed()
