"""A worker that has died is replaced at once. circus 0.18.3 looks for dead ones every ten seconds, as BentoML has it
do (bentoml/_internal/utils/circus), and does not hear SIGCHLD.
"""

import signal
import time
from collections import deque
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circus.arbiter import Arbiter

AGAIN_S = 0.05
CIRCUS_S = 10.0
"""circus looks by itself after this, and a death is forgotten."""
FIRST_DELAY_S = 0.25


class Respawn:
    """Have an arbiter look after its workers whenever one has died; later each time while they die in a row."""

    def __init__(self, arbiter: "Arbiter") -> None:
        self._arbiter = arbiter
        self._deaths: deque[float] = deque()
        self._due = False

    def listen(self) -> None:
        """In the main thread, while the arbiter's loop runs."""
        signal.signal(signal.SIGCHLD, self._heard)
        self._look()  # for one that has died already

    def delay_s(self, now: float) -> float:
        """How long to wait after a death at that time, in seconds: none after the first for long."""
        while self._deaths and now - self._deaths[0] > CIRCUS_S:
            self._deaths.popleft()
        self._deaths.append(now)
        before = len(self._deaths) - 1
        return min(CIRCUS_S, FIRST_DELAY_S * 2 ** (before - 1)) if before else 0.0

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._arbiter.loop.add_callback_from_signal(self._look)

    def _look(self) -> None:
        from circus.process import DEAD_OR_ZOMBIE, UNEXISTING  # noqa: PLC0415  the workers do without it

        processes = [p for watcher in self._arbiter.iter_watchers() for p in tuple(watcher.processes.values())]
        # A child that was stopped or continued says so by the same signal.
        if not self._due and any(process.status in (DEAD_OR_ZOMBIE, UNEXISTING) for process in processes):
            self._due = True
            self._arbiter.loop.call_later(self.delay_s(time.monotonic()), self._replace)

    def _replace(self) -> None:
        from circus.exc import ConflictError  # noqa: PLC0415  as above

        try:
            self._arbiter.manage_watchers()
        except ConflictError:  # it is in the middle of something
            self._arbiter.loop.call_later(AGAIN_S, self._replace)
        else:
            self._due = False
