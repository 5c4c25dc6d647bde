"""How the service refuses to start: one sentence and exit code 2, like pack_model.py.

The process of `bentoml serve` does so before anything listens. A worker that finds out later, because its pack was
damaged or replaced, must not be restarted forever behind an open port: it ends with an exit code of its own, and
`bentoml serve` then stops the other workers, whose open streams may finish, and ends with 2.
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
"""EX_CONFIG of sysexits.h, which Python, click and uvicorn never exit with themselves."""


class Refused(click.ClickException):
    """An error that BentoML's command line, which is click's, shows unchanged."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=True)


@contextmanager
def refusing() -> Iterator[None]:
    """Report an error that is meant for the user: raise Refused, or in a worker, end it."""
    try:
        yield
    except (BentoTRTLLMError, Refused) as error:
        if bentoml.server_context.worker_index is not None:
            _end(str(error))
        raise Refused(str(error)) from error


@contextmanager
def starting_worker() -> Iterator[None]:
    """End this worker, which serves no requests yet, at any error: if restarted, it would fail again."""
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
    # Not an exception: uvicorn would print its traceback and exit with an unspecific code.
    sys.stderr.write(f"error: {sentence}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def heed_refusals(arbiter: "Arbiter") -> None:
    """Have the arbiter exit with 2 once a worker has refused.

    This uses circus's own hook after_reap, and the exception that its start() raises when its loop has ended (circus
    0.18.3, watcher.py and arbiter.py).
    """

    def reaped(exit_code: int, **_: Any) -> bool:
        if exit_code == REFUSED and arbiter._exception is None:
            arbiter._exception = SystemExit(2)
            arbiter.loop.add_callback(arbiter.stop)
        return True

    for watcher in arbiter.iter_watchers():
        watcher.hooks["after_reap"] = reaped
