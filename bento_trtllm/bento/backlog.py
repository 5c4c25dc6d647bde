"""Connections that the kernel has made, and the worker has yet to accept.

libuv accepts one in each turn of the event loop (since 1.45): when many come at once, a probe stands behind all who
came before it, each for the time of a turn. Here as many as MOST are accepted in a turn, once there were two in one. A
worker that has time takes one or two, and leaves the rest to the others.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from bento_trtllm.bento.connections import listening

MOST = 64
"""Connections that are accepted in a turn."""


class Backlog:
    """Makes the protocol for each connection that uvicorn accepts, with `make`, and accepts others beside it."""

    def __init__(self, make: Callable[..., asyncio.Protocol]) -> None:
        self._make = make
        self._sockets: list[socket.socket] | None = None
        self._beside = 0
        self._opening: set[asyncio.Task[Any]] = set()

    def __call__(self, **options: Any) -> asyncio.Protocol:
        """What uvicorn makes a protocol with."""
        if self._sockets is None:
            self._sockets = [] if options["config"].is_ssl else list(listening())
        accepted = sum(self._accept(each, options) for each in self._sockets)
        if accepted < self._beside:
            self._beside = 0
        else:
            self._beside = MOST - 1 if accepted else 1
        return self._make(**options)

    def _accept(self, listener: socket.socket, options: dict[str, Any]) -> int:
        """How many there were."""
        loop = asyncio.get_running_loop()
        for accepted in range(self._beside):
            try:
                connection, _ = listener.accept()
            except OSError:  # there is none; or it is shut, or there are too many
                return accepted
            connection.setblocking(False)
            opening = loop.create_task(loop.connect_accepted_socket(lambda: self._make(**options), connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        return self._beside
