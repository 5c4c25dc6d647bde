"""A client that has left: the engine is told first, and then the tasks that answered it end, one after the other."""

from collections.abc import Callable
from contextvars import ContextVar


class Leaving:
    """What to call when the client of one request has left."""

    def __init__(self) -> None:
        self._calls: set[Callable[[], None]] = set()

    def add(self, call: Callable[[], None]) -> None:
        """Have this called then, too."""
        self._calls.add(call)

    def discard(self, call: Callable[[], None]) -> None:
        """It need not be called any more."""
        self._calls.discard(call)

    def tell(self) -> None:
        """The client has left."""
        for call in tuple(self._calls):
            call()


LEAVING: ContextVar[Leaving | None] = ContextVar("leaving", default=None)
"""Of the request being served; None where no client can leave."""
