"""A worker's shutdown: from the first signal, open streams have a grace period; a second signal ends it.

BentoML leaves signals to uvicorn, which at the first stops accepting connections and waits for open responses without a
limit. But `bentoml serve` holds the workers' socket open until the last worker is gone: a client that connects
meanwhile would get no answer. So the signal is handled here first. While any worker of a stopping service has a stream
open, all of them still take requests, in order to refuse them. Then uvicorn is told, and the socket is closed for all.

A worker that gets a signal alone leaves the socket to the others.
"""

import asyncio
import ctypes
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from bento_trtllm.bento.connections import listening

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A terminal's Ctrl-C reaches a worker twice: from the terminal, and through `bentoml serve`. So does a SIGTERM to all
# processes at once, as from systemd.
SAME_SIGNAL_S = 1.0
# `bentoml serve` has this long to say that it is stopping, too; otherwise only this worker is.
ALONE_S = 2.0
POLL_S = 0.05
# How long streams that were cut have to end before uvicorn is told, and uvicorn to stop accepting.
CUT_S, CLOSE_S = 2.0, 0.3
PR_SET_PDEATHSIG = 1  # from linux/prctl.h

STOPPING = "BENTO_TRTLLM_STOPPING"
"""Holds the descriptor of a pipe whose other end `bentoml serve` closes when it stops (arbiter.py)."""


class Drain:
    """Calls `begin` at the first signal, and `cut` after the grace period or at the next signal.

    In between it polls `done`: whether no stream is open any more, in any worker.
    """

    def __init__(
        self, begin: Callable[[], None], cut: Callable[[], None], done: Callable[[], bool], grace_s: float
    ) -> None:
        self._begin = begin
        self._cut = cut
        self._done = done
        self._grace_s = grace_s
        self._first: float | None = None
        self._second_signal = False
        self._previous: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._stopping = int(os.environ.get(STOPPING, "-1"))
        self._listening: list[socket.socket] = []
        self._ending: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Handle the signals before the present handlers. Call it in the main thread, with the loop running.

        From here on the death of `bentoml serve` is a SIGTERM: if it is killed, its workers would otherwise keep
        running.
        """
        loop = asyncio.get_running_loop()
        self._listening = list(listening())
        if self._stopping >= 0:
            os.set_inheritable(self._stopping, False)
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if callable(previous):
                self._previous[number] = previous
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(self._heard, number))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if self._service_stops():  # it died before it was listened for
            loop.call_soon(self._heard, signal.SIGTERM)

    def _heard(self, number: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._begin()
            self._ending = asyncio.ensure_future(self._end(number, now))
        elif now - self._first > SAME_SIGNAL_S:
            self._second_signal = True

    async def _end(self, number: int, began: float) -> None:
        while time.monotonic() - began < self._grace_s and not self._second_signal:
            if self._service_stops():
                if self._done():
                    break
            elif time.monotonic() - began > ALONE_S:
                self._pass_on(number)
            await asyncio.sleep(POLL_S)
        else:
            self._cut()
            cut = time.monotonic()
            while time.monotonic() - cut < CUT_S and not self._done():
                await asyncio.sleep(POLL_S)
        self._pass_on(number)
        if self._service_stops():
            await asyncio.sleep(CLOSE_S)
            for each in self._listening:
                with suppress(OSError):  # another worker did it first
                    each.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, number: int) -> None:
        """Tell uvicorn; only once, since at a second SIGINT it silently drops open responses (0.54)."""
        previous = self._previous.get(number)
        self._previous.clear()
        if previous:
            previous(number, None)

    def _service_stops(self) -> bool:
        """Whether the whole service is stopping, or `bentoml serve` is gone; otherwise only this worker is."""
        return self._stopping >= 0 and bool(select.select([self._stopping], [], [], 0)[0])
