"""How many requests are served at once, how many may wait, for how long, and when no more are taken."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from bento_trtllm.generation.errors import Draining, GenerationError, LineFull, WaitedTooLong


class Slots(Protocol):
    """What a running request takes one of: OwnSlots, or those that workers share.

    Times are the event loop's. `freed` is set by who takes them, and called when one may be free.
    """

    limit: int
    freed: Callable[[], object]

    def take(self, since: float) -> bool:
        """Take one for who waits since then; False where none is free or somebody elsewhere waits longer."""
        ...

    def give_back(self) -> None:
        """Free one that was taken."""
        ...

    def show_line(self, first: float | None, waiting: int) -> None:
        """Since when the first in line here waits, and how many do: said at every change, before one is taken."""
        ...

    def elsewhere(self) -> tuple[int, int]:
        """How many run and how many wait elsewhere."""
        ...


class OwnSlots:
    """Slots that nobody shares."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.freed: Callable[[], object] = lambda: None
        self._taken = 0

    def take(self, since: float) -> bool:
        """Whether there was one."""
        if self._taken >= self.limit:
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        """Free one that was taken."""
        self._taken -= 1

    def show_line(self, first: float | None, waiting: int) -> None:
        """Nobody looks."""

    def elsewhere(self) -> tuple[int, int]:
        """None."""
        return 0, 0


class Admission:
    """The line for slots in one worker, of at most `waiting` in all; whoever comes then is turned away.

    The line is kept here, and not by asyncio's Semaphore and wait_for: those of Python 3.10 and 3.11 can lose a
    slot, or a cancellation, when a slot comes in the moment in which the wait for it ends.
    """

    def __init__(self, slots: Slots, waiting: int) -> None:
        self._slots = slots
        slots.freed = self._let_in
        self._longest_line = waiting
        self._running = 0
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()
        """Since when each waits, and the future that is done when it waits no longer."""
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
    def load(self) -> int:
        """Requests that have a slot or are in line, in all workers."""
        return self._running + len(self._line) + sum(self._slots.elsewhere())

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._draining

    @asynccontextmanager
    async def slot(self, limit_s: float) -> AsyncIterator[None]:
        """Wait in line for a slot. Raises LineFull; Draining; and WaitedTooLong after `limit_s`, in seconds."""
        if self._draining:
            raise Draining()
        if not self._line and self._slots.take(asyncio.get_running_loop().time()):
            self._running += 1
            self.changed()
        else:
            await self._wait(limit_s)
        try:
            yield
        finally:
            self._give_back()

    def drain(self) -> None:
        """Take no more requests; those inside go on."""
        self._draining = True

    def dissolve(self) -> None:
        """Turn away all who are in line, too."""
        self.drain()
        for _, place in tuple(self._line):
            self._turn_away(place, Draining())

    async def _wait(self, limit_s: float) -> None:
        """Return with a slot."""
        running, waiting = self._slots.elsewhere()
        if len(self._line) + waiting >= self._longest_line:
            raise LineFull(
                f"The server is busy with {self._running + len(self._line) + running + waiting} requests and takes no "
                "more: try again in a second."
            )
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        late = WaitedTooLong(f"The server was busy with other requests for {limit_s:g} s: try again in a few seconds.")
        timer = loop.call_later(limit_s, self._turn_away, place, late)
        self._line.append((loop.time(), place))
        self._show()
        self._let_in()  # one that came free elsewhere before the line was shown
        try:
            await place
        except asyncio.CancelledError:
            if not self._leave(place) and not place.cancelled() and place.exception() is None:
                self._give_back()  # its turn came as its client left
            raise
        finally:
            timer.cancel()

    def _give_back(self) -> None:
        self._running -= 1
        self._slots.give_back()
        if not self._let_in():
            self.changed()

    def _let_in(self) -> bool:
        """Give slots to the first in line, as far as there are any for them; whether anybody has left the line."""
        before = len(self._line)
        while self._line:
            since, place = self._line[0]
            if not place.done():  # else its client has left just now
                if not self._slots.take(since):
                    break
                self._running += 1
                place.set_result(None)
            self._line.popleft()
        if len(self._line) == before:
            return False
        self._show()
        return True

    def _leave(self, place: "asyncio.Future[None]") -> bool:
        """Take a place out of the line; False if it is not in it."""
        entry = next((entry for entry in self._line if entry[1] is place), None)
        if entry is None:
            return False
        self._line.remove(entry)
        self._show()
        return True

    def _turn_away(self, place: "asyncio.Future[None]", error: GenerationError) -> None:
        if not place.done():
            place.set_exception(error)
            self._leave(place)

    def _show(self) -> None:
        self._slots.show_line(self._line[0][0] if self._line else None, len(self._line))
        self.changed()
