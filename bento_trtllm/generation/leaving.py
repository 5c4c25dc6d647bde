"""A client that has left: the engine is told first, and then the tasks that answered it end, one after the other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Leaving(set[Callable[[], None]]):
    """What to call when the client of one request has left."""

    def tell(self) -> None:
        """The client has left."""
        for call in tuple(self):
            call()


LEAVING: ContextVar[Leaving | None] = ContextVar("leaving", default=None)
"""Of the request being served; None where no client can leave."""


@contextmanager
def when_left(call: Callable[[], None]) -> Iterator[None]:
    """Have this called if the client leaves within the block."""
    leaving = LEAVING.get()
    if leaving is None:
        yield
        return
    leaving.add(call)
    try:
        yield
    finally:
        leaving.discard(call)
