"""The process of `bentoml serve` itself, which starts and stops the workers with circus 0.18.3 (BentoML 1.4.40).

circus takes commands, including "run this program", at a port of 127.0.0.1 from anyone on this machine. So its two
sockets are moved to where no other process can reach them. And workers can tell whether a signal is for them alone:
they hold one end of a pipe, and the arbiter closes the other end when it stops.

A second signal must reach the workers, too: at the first, the arbiter tells them to stop and waits without a limit
until they have; meanwhile it refuses further signals as conflicting commands. So the handlers that it installs are
wrapped once it runs. It installs them before its loop runs, and its loop is the main thread's own
(circus/controller.py, circus/arbiter.py), so a callback scheduled on that loop beforehand finds them in place.

While it replaces a worker it refuses the first signal, too, and forgets it: it is told again.

At a SIGHUP circus would start all workers anew, and with them the engine. Here it means what it says, that the terminal
is gone, and there is nothing to read again.
"""

import atexit
import functools
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from bento_trtllm.bento.refusal import Refused, heed_refusals
from bento_trtllm.bento.respawn import AGAIN_S, Respawn
from bento_trtllm.bento.shutdown import SIGNALS, STOPPING

if TYPE_CHECKING:
    from circus.sighandler import SysHandler

LONGEST_SOCKET = 107
HIGHEST_PORT = 65535


def patch_arbiter() -> None:
    """Have every arbiter of this process take commands from this process only, and tell its workers when it stops.

    With `--reload` another process tells it to restart the workers: the sockets are then in a folder of mode 0700.

    Raises Refused for a port that there is not. One that is taken is refused when the arbiter begins to listen.
    """
    from circus.arbiter import Arbiter  # noqa: PLC0415  the workers do not need it
    from circus.exc import ConflictError  # noqa: PLC0415  as above

    _check_port()
    make, stop, initialize = Arbiter.__init__, Arbiter.stop, Arbiter.initialize
    if hasattr(make, "__wrapped__"):
        return  # not the first service of this process

    numbers = itertools.count()

    @functools.wraps(make)
    def make_closed(self: Any, watchers: Any, endpoint: str, pubsub_endpoint: str, **options: Any) -> None:
        place = f"inproc://{next(numbers)}"
        if options.get("plugins"):
            folder = _socket_folder()
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            place = f"ipc://{folder}"
        reading, writing = os.pipe()
        os.set_inheritable(reading, True)
        for watcher in watchers:
            watcher.env = {**(watcher.env or {}), STOPPING: str(reading)}
        make(self, watchers, f"{place}/commands", f"{place}/events", **options)
        self.stop_pipe = os.fdopen(writing, "wb")
        self.worker_pipe = os.fdopen(reading, "rb")

    @functools.wraps(stop)
    def stop_and_tell(self: Any) -> Any:
        self.stop_pipe.close()
        try:
            return stop(self)
        except ConflictError:  # it replaces a worker, or is stopping
            if not self._stopping:
                self.loop.call_later(AGAIN_S, self.stop)
            return None

    @functools.wraps(initialize)
    def initialize_or_refuse(self: Any) -> None:
        try:
            initialize(self)
        except OSError as error:
            places = ", ".join(each.location for each in self.sockets.values())
            raise Refused(f"the service cannot listen at {places}: {error.strerror}") from error

    Arbiter.__init__, Arbiter.stop, Arbiter.initialize = make_closed, stop_and_tell, initialize_or_refuse


def _check_port() -> None:
    """Refuse a port that there is not: getaddrinfo, which circus asks, gives another one for it (99999: 34463)."""
    context = click.get_current_context(silent=True)
    port = context.params.get("port") if context else None
    if port is not None and not 0 <= port <= HIGHEST_PORT:
        raise Refused(f"the service cannot listen at port {port}: give one from 1 to {HIGHEST_PORT}")


def _socket_folder() -> str:
    """A folder of mode 0700 whose path is short enough for a socket in it (unix(7): 107 bytes in all)."""
    folder = tempfile.mkdtemp(prefix="bento-trtllm-reload-")
    if len(os.fsencode(folder)) + len("/commands") > LONGEST_SOCKET:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="bento-trtllm-reload-", dir="/tmp")
    return folder


def forward_signals() -> None:
    """Pass the second and all later signals on to the workers, which then end open streams (shutdown.py).

    From then on, workers that die are replaced at once, and refusals are handled, too. Call it in the main thread
    before the arbiter is made. If no arbiter takes over the signals, as when a program serves in a thread of its own,
    nothing happens.
    """
    from tornado.ioloop import IOLoop  # noqa: PLC0415  the workers do not need it

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

    owner = getattr(signal.getsignal(SIGNALS[0]), "__self__", None)
    if isinstance(owner, SysHandler):
        heed_refusals(owner.controller.arbiter)
        Respawn(owner.controller.arbiter).listen()
        for number in SIGNALS:
            signal.signal(number, handler(owner))
        stop, hangup = handler(owner), signal.SIGHUP
        heeded = _has_terminal() and owner._old[hangup] != signal.SIG_IGN  # nohup has it ignored
        signal.signal(hangup, (lambda _, frame: stop(signal.SIGTERM, frame)) if heeded else signal.SIG_IGN)


def _has_terminal() -> bool:
    """Whether a terminal controls this process, as it does where somebody typed the command (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
