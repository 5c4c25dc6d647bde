"""How the service says that it cannot be served: one sentence, and exit code 2, as pack_model.py does.

In the process of `bentoml serve` before anything listens. A worker that finds out later, since what it serves was
damaged or replaced under it, must not be started again for ever behind a port that accepts: it ends with an exit code
of its own, on which `bentoml serve` stops the others, whose open answers may finish, and ends with 2.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import bentoml
import click

from bento_trtllm.errors import BentoTRTLLMError

if TYPE_CHECKING:
    from circus.arbiter import Arbiter

REFUSED = 78
"""EX_CONFIG of sysexits.h, which neither Python, click nor uvicorn end with by themselves."""
AGAIN_S = 0.05


class Refused(click.ClickException):
    """An error that BentoML's command line, which is click's, shows as it is."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=True)


@contextmanager
def refusing() -> Iterator[None]:
    """End with an error that is meant for whoever runs the command: by raising Refused, or as a worker ends."""
    try:
        yield
    except (BentoTRTLLMError, Refused) as error:
        if bentoml.server_context.worker_index is not None:
            _end(str(error))
        raise Refused(str(error)) from error


@contextmanager
def starting_worker() -> Iterator[None]:
    """End this worker, which serves nobody yet, for any error: one that started again would fail again."""
    try:
        yield
    except (BentoTRTLLMError, Refused) as error:
        _end(str(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split())
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        _end(f"the service cannot start: {type(error).__name__}: {words} ({place})")


def _end(sentence: str) -> NoReturn:
    # Not an exception: uvicorn would show its traceback, and end with a code that says nothing.
    sys.stderr.write(f"error: {sentence}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def heed_refusals(arbiter: "Arbiter") -> None:
    """Have the arbiter end, with 2, once a worker has refused.

    By circus' own hook after_reap, and by the exception that its start() raises when its loop has ended (circus
    0.18.3, watcher.py and arbiter.py).
    """
    from circus.exc import ConflictError  # noqa: PLC0415  the workers do without it

    def stop() -> None:
        try:
            arbiter.stop()
        except ConflictError:  # it is in the middle of something: of the very round in which it has reaped
            arbiter.loop.call_later(AGAIN_S, stop)

    def reaped(exit_code: int, **_: Any) -> bool:
        if exit_code == REFUSED and arbiter._exception is None:
            arbiter._exception = SystemExit(2)
            arbiter.loop.add_callback(stop)
        return True

    for watcher in arbiter.iter_watchers():
        watcher.hooks["after_reap"] = reaped
