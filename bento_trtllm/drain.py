"""The worker's end: from the first signal, open answers have a grace time; a second signal ends it.

BentoML leaves signals to uvicorn, which then waits for open responses without a limit, and only after that calls the
service's shutdown hooks. So the signal is heard here first, and passed on.
"""

import asyncio
import ctypes
import signal
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A terminal's Ctrl-C reaches the worker twice: from the terminal, and through `bentoml serve`.
SAME_SIGNAL_S = 1.0
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class Drain:
    """Calls `begin` at the first signal, and `cut` after the grace time or at the next signal."""

    def __init__(self, begin: Callable[[], None], cut: Callable[[], None], grace_s: float) -> None:
        self._begin = begin
        self._cut = cut
        self._grace_s = grace_s
        self._first: float | None = None
        self._passed_on = False
        self._timer: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Hear the signals before those who hear them now. In the main thread, with the loop running.

        The death of `bentoml serve` is a SIGTERM from here on: killed, it would leave its workers running.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            signal.signal(number, self._handler(signal.getsignal(number), loop))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    def _handler(
        self, previous: "Callable[[int, FrameType | None], object] | int | None", loop: asyncio.AbstractEventLoop
    ) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._heard, loop)
            # Not the second: at a second SIGINT, uvicorn drops open answers without a word (0.54).
            if callable(previous) and not self._passed_on:
                self._passed_on = True
                previous(number, frame)

        return handle

    def _heard(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._timer = loop.call_later(self._grace_s, self._cut)
            self._begin()
        elif now - self._first > SAME_SIGNAL_S:
            self._cut()
