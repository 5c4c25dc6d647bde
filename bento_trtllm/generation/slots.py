"""What a running request takes one of, and whose turn it is to take one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bento_trtllm.generation.client import Client, turn


@dataclass
class Standing:
    """What one client has in one worker."""

    client: Client
    running: int = 0
    waiting: int = 0
    first: float = 0.0
    """Since when the first in its line waits, by the event loop's clock."""


class Slots(Protocol):
    """OwnSlots, or those that workers share.

    Times are the event loop's. `freed` is set by who takes them, and called when one may be free.
    """

    limit: int
    freed: Callable[[], object]

    def take(self) -> str | None:
        """Take one for the client in line here whose turn it is; its name.

        None where no slot is free, or it is nobody's turn here.
        """
        ...

    def give_back(self, client: Client) -> None:
        """Free one that was taken for it. Whoever has a line asks for one next."""
        ...

    def show_line(self, client: Client, first: float | None, waiting: int) -> None:
        """Since when the first in this client's line here waits, and how many do: said at every change."""
        ...

    def elsewhere(self) -> tuple[int, int]:
        """How many run and how many wait elsewhere."""
        ...

    def crowd(self, client: Client) -> tuple[int, float]:
        """How many of its requests wait, here and elsewhere; and its part of all weights of those that wait."""
        ...

    def standings(self) -> list[tuple[int, Standing]]:
        """What each client has, here and elsewhere, with the number of its worker."""
        ...


class OwnSlots:
    """Slots that no other worker shares."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.freed: Callable[[], object] = lambda: None
        self._taken = 0
        self._clients: dict[str, Standing] = {}

    def take(self) -> str | None:
        """For the one whose turn it is."""
        if self._taken >= self.limit:
            return None
        eager = [each for each in self._clients.values() if each.waiting and each.running < each.client.max_running]
        if not eager:
            return None
        chosen = min(eager, key=lambda each: (turn(each.running, each.client.weight), each.first))
        self._taken += 1
        chosen.running += 1
        return chosen.client.name

    def give_back(self, client: Client) -> None:
        """Free one that was taken."""
        self._taken -= 1
        self._clients[client.name].running -= 1
        self._forget(client)

    def show_line(self, client: Client, first: float | None, waiting: int) -> None:
        """How its line is."""
        standing = self._clients.setdefault(client.name, Standing(client))
        standing.client, standing.first, standing.waiting = client, first or 0.0, waiting
        self._forget(client)

    def elsewhere(self) -> tuple[int, int]:
        """None."""
        return 0, 0

    def crowd(self, client: Client) -> tuple[int, float]:
        """As the lines here are."""
        weights = sum(each.client.weight for each in self._clients.values() if each.waiting)
        return self._clients[client.name].waiting, client.weight / weights

    def standings(self) -> list[tuple[int, Standing]]:
        """Those here."""
        return [(0, standing) for standing in self._clients.values()]

    def _forget(self, client: Client) -> None:
        standing = self._clients[client.name]
        if not standing.running and not standing.waiting:
            del self._clients[client.name]
