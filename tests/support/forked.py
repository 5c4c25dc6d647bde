"""A block of code in a process of its own, without what a new interpreter costs."""

import os
import sys
from collections.abc import Callable
from types import TracebackType


class Forked:
    """Runs beside the block of its `with`, and has ended after it; an error in it is one there."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def __enter__(self) -> "Forked":
        self.process = os.fork()
        if not self.process:
            code = 1
            try:
                self._work()
                code = 0
            except BaseException as error:
                print(f"in the forked process: {error!r}", file=sys.stderr)
            finally:
                os._exit(code)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _, status = os.waitpid(self.process, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
