"""The process of `bentoml serve` itself: a second signal to it is one to its workers.

BentoML 1.4.39 starts and stops the workers with circus 0.18.3, whose arbiter tells them to stop at the first signal
and waits, without a limit, until they have; while it waits it refuses further signals as conflicting commands. So
the handlers that it installs are wrapped once it runs. It makes them before its loop runs, and its loop is the main
thread's own (circus/controller.py, circus/arbiter.py), so a callback that is put there before finds them in place.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from bento_trtllm.drain import SIGNALS

if TYPE_CHECKING:
    from circus.sighandler import SysHandler


def forward_signals() -> None:
    """Pass the second signal, and all after it, on to the workers, who end open answers then (drain.py).

    Call it in the main thread before the arbiter is made. Where no arbiter comes to own the signals, as when a
    program serves in a thread of its own, nothing happens.
    """
    from tornado.ioloop import IOLoop  # noqa: PLC0415  the workers do without it

    IOLoop.current().add_callback(_wrap)


def _wrap() -> None:
    from circus.sighandler import SysHandler  # noqa: PLC0415  as above

    first = True

    def handler(owner: "SysHandler") -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal first
            owner.signal(number, frame)
            if not first:
                for watcher in owner.controller.arbiter.iter_watchers():
                    for pid in tuple(watcher.processes):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGTERM)
            first = False

        return handle

    for number in SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, SysHandler):
            signal.signal(number, handler(owner))
