"""The connections to this worker: how many in all and per address, and which has been idle longest."""

from collections import Counter
from typing import Protocol

from bento_trtllm.api.addresses import network
from bento_trtllm.api.errors import APIError


class Peer(Protocol):
    """One connection."""

    def leave(self) -> None:
        """Close it: it is idle, and its place is needed."""


class Peers:
    """The connections of one worker. The address of a unix socket is None, which is not counted."""

    def __init__(self, most: int, most_of_an_address: int) -> None:
        self._most = most
        self._most_of_an_address = most_of_an_address
        self._all: dict[Peer, str | None] = {}
        self._addresses: Counter[str] = Counter()
        # In the order in which they became idle.
        self._idle: dict[Peer, None] = {}

    def add(self, peer: Peer, host: str | None) -> None:
        """A new connection, idle at first. Raises APIError if there are too many."""
        address = network(host)
        if address and self._addresses[address] >= self._most_of_an_address:
            raise APIError(
                429,
                "too_many_connections",
                f"Your address has {self._most_of_an_address} connections open: use those, or close some.",
                {"Retry-After": "1"},
            )
        if len(self._all) >= self._most:
            longest = next(iter(self._idle), None)
            if longest is None:
                raise APIError(
                    503,
                    "too_many_connections",
                    f"{self._most} connections are open, and all are in use: try again.",
                    {"Retry-After": "1"},
                )
            self.remove(longest)
            longest.leave()
        self._all[peer] = address
        self._idle[peer] = None
        if address:
            self._addresses[address] += 1

    def remove(self, peer: Peer) -> None:
        """A connection has ended; calling this again does nothing."""
        self._idle.pop(peer, None)
        address = self._all.pop(peer, None)
        if address:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def idle(self, peer: Peer) -> None:
        """A connection waits for its next request."""
        if peer in self._all:
            self._idle[peer] = None

    def busy(self, peer: Peer) -> None:
        """A connection has begun a request."""
        self._idle.pop(peer, None)
