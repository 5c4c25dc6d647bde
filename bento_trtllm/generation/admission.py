"""How many requests are served at once, how many may wait, for how long, and when no more are taken."""

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bento_trtllm.generation.client import CLIENT, Client
from bento_trtllm.generation.errors import Draining, GenerationError, QueueFull, WaitedTooLong
from bento_trtllm.generation.slots import Slots, Standing

LONGEST_RETRY_S = 30.0
TIDY_S = 1.0
"""How often clients are forgotten who have come back, or might have."""
OF_RETURNERS = 0.5
"""The part of the slots that come free which is booked for those who were told to come again: others come untold, first
of all whoever just had an answer. Booked for all, returners are refused up to twice as often, and wait as long."""
NEWEST = 0.05
"""What the newest of the times counts, of which a mean is kept."""


@dataclass
class Line:
    """The requests of one client that wait."""

    client: Client
    places: "deque[tuple[float, asyncio.Future[None]]]" = field(default_factory=deque)
    """Since when each waits, and the future that is done when it waits no longer."""


class Admission:
    """The lines for slots in one worker, one a client.

    Once `waiting` wait in all, a client may have no more than its part of so many in line, by weight, and one in any
    case: whoever fills the line leaves room for others. Twice as many never wait.

    The lines are kept here, and not by asyncio's Semaphore and wait_for: those of Python 3.10 and 3.11 can lose a
    slot, or a cancellation, when a slot comes in the moment in which the wait for it ends.
    """

    def __init__(self, slots: Slots, waiting: int) -> None:
        self._slots = slots
        slots.freed = self._let_in
        self._longest_line = waiting
        self._running = 0
        self._waiting = 0
        self._lines: dict[str, Line] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when `running` or `waiting` has changed."""
        self._draining = False
        self._held_s = 0.0
        """How long a slot is held, of late."""
        self._returns: dict[str, float] = {}
        """When the last of each client's requests that were told to come again will have come."""
        self._tidy_at = 0.0

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return self._waiting

    @property
    def load(self) -> int:
        """Requests that have a slot or are in line, in all workers."""
        return self._running + self._waiting + sum(self._slots.elsewhere())

    @property
    def limit(self) -> int:
        """The slots of all workers."""
        return self._slots.limit

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._draining

    def standings(self) -> list[tuple[int, Standing]]:
        """What each client has, in all workers, with the number of the worker."""
        return self._slots.standings()

    def has_room(self, client: Client) -> bool:
        """Whether a request would find a place, as far as can be told before anything of it was read."""
        return self._find_crowd(client) is None

    def refuse_early(self, client: Client) -> None:
        """Raise QueueFull for a request that would find no place, before anything of it was read: so it costs little.

        Who passes may be refused later: others come meanwhile.
        """
        if crowd := self._find_crowd(client):
            raise self._full(client, *crowd)

    def _find_crowd(self, client: Client) -> tuple[float, int, int] | None:
        """What leaves no place for another request, as `_full` takes it; None if there is one."""
        running, waiting = self._slots.elsewhere()
        waiting += self._waiting
        if waiting < self._longest_line or self._running + running < self._slots.limit:
            return None
        # It is shown as in line for as long as this takes: what counts is how it would be with it.
        line = self._lines.get(client.name)
        first, length = (line.places[0][0], len(line.places)) if line else (asyncio.get_running_loop().time(), 0)
        self._slots.show_line(client, first, length + 1)
        try:
            part = self._part_exceeded(client, waiting + 1)
        finally:
            self._slots.show_line(client, first if length else None, length)
        return None if part is None else (part, waiting, self._running + running)

    @asynccontextmanager
    async def slot(self, limit_s: float) -> AsyncIterator[None]:
        """Wait in line for a slot. Raises QueueFull; Draining; and WaitedTooLong after `limit_s`, in seconds."""
        if self._draining:
            raise Draining()
        client = CLIENT.get()
        await self._wait(client, limit_s)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self._held_s += (NEWEST if self._held_s else 1) * (loop.time() - began - self._held_s)
            self._give_back(client)

    def drain(self) -> None:
        """Take no more requests; those inside go on."""
        self._draining = True

    def dissolve(self) -> None:
        """Turn away all who are in line, too."""
        self.drain()
        for line in tuple(self._lines.values()):
            for _, place in tuple(line.places):
                self._turn_away(line.client, place, Draining())

    async def _wait(self, client: Client, limit_s: float) -> None:
        """Return with a slot."""
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        line = self._lines.setdefault(client.name, Line(client))
        line.client = client
        line.places.append((loop.time(), place))
        self._waiting += 1
        self._show(line)
        if self._take_turns() and place.done():
            self.changed()
            return
        running, waiting = self._slots.elsewhere()
        if (part := self._part_exceeded(client, self._waiting + waiting)) is not None:
            self._leave(client, place)
            raise self._full(client, part, self._waiting + waiting, self._running + running)
        self.changed()
        late = WaitedTooLong(f"The server was busy with other requests for {limit_s:g} s: try again in a few seconds.")
        timer = loop.call_later(limit_s, self._turn_away, client, place, late)
        try:
            await place
        except asyncio.CancelledError:
            if self._leave(client, place):
                self.changed()
            elif not place.cancelled() and place.exception() is None:
                self._give_back(client)  # its turn came as its client left
            raise
        finally:
            timer.cancel()

    def _part_exceeded(self, client: Client, waiting: int) -> float | None:
        """The client's part of a line of that length, its own place included, if it has no right to that place."""
        if waiting <= self._longest_line:
            return None
        its_own, part = self._slots.crowd(client)
        exceeded = waiting > 2 * self._longest_line or its_own > max(1, self._longest_line * part)
        return part if exceeded else None

    def _full(self, client: Client, part: float, waiting: int, running: int) -> QueueFull:
        """The refusal of one more beside so many, with a time to come back that is its own."""
        retry_s = self._retry_s(client, part, waiting)
        busy = f"The server is busy with {running + waiting} requests and takes no more"
        return QueueFull(f"{busy}: try again in {retry_s} s.", retry_s)

    def _retry_s(self, client: Client, part: float, waiting: int) -> int:
        """When a line of that length has been served, more or less, and a slot will be free for it, too.

        Whoever is refused is told a time of its own: as far behind the one before as slots come free for this client
        here. Else all would come back sooner than there is room, and refusals take the cores that answers need.
        """
        now = asyncio.get_running_loop().time()
        served = now + waiting * self._held_s / self._slots.limit
        behind = self._returns.get(client.name, 0.0) + self._held_s / (OF_RETURNERS * part * max(1, self._running))
        # A crowd that is too large for it must not come back together, either.
        latest = now + LONGEST_RETRY_S * random.uniform(0.5, 1)
        if now > self._tidy_at:
            self._returns = {name: at for name, at in self._returns.items() if at > now}
            self._tidy_at = now + TIDY_S
        self._returns[client.name] = comes = min(max(served, behind), latest)
        return math.ceil(comes - now) or 1

    def _give_back(self, client: Client) -> None:
        self._running -= 1
        self._slots.give_back(client)
        self._take_turns()
        self.changed()

    def _let_in(self) -> None:
        """Slots may be free."""
        if self._take_turns():
            self.changed()

    def _take_turns(self) -> bool:
        """Give slots to those whose turn it is, as far as there are any for them; whether anybody has left a line."""
        let_in = False
        while self._waiting and (name := self._slots.take()) is not None:
            let_in = True
            line = self._lines[name]
            while line.places and line.places[0][1].done():
                self._next(line)  # it has left just now
            if line.places:
                self._running += 1
                self._next(line).set_result(None)
                self._show(line)
            else:
                self._show(line)
                self._slots.give_back(line.client)
            if not line.places:
                del self._lines[name]
        return let_in

    def _next(self, line: Line) -> "asyncio.Future[None]":
        self._waiting -= 1
        return line.places.popleft()[1]

    def _leave(self, client: Client, place: "asyncio.Future[None]") -> bool:
        """Take a place out of its line; False if it is not in it."""
        line = self._lines.get(client.name)
        entry = next((entry for entry in line.places if entry[1] is place), None) if line else None
        if line is None or entry is None:
            return False
        line.places.remove(entry)
        self._waiting -= 1
        self._show(line)
        if not line.places:
            del self._lines[client.name]
        return True

    def _turn_away(self, client: Client, place: "asyncio.Future[None]", error: GenerationError) -> None:
        if not place.done():
            place.set_exception(error)
            self._leave(client, place)
            self.changed()

    def _show(self, line: Line) -> None:
        self._slots.show_line(line.client, line.places[0][0] if line.places else None, len(line.places))
