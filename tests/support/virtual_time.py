"""An event loop whose clock goes on when there is nothing else to do: hours of waiting in milliseconds, and exact."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from types import coroutine
from typing import Any, ParamSpec, TypeVar

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class _Selector(selectors.DefaultSelector):
    """Lets the clock jump in place of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("everything waits for something that never comes")
            self.now += max(timeout, 0)
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 0. Raises RuntimeError where it would wait for ever."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def compute(self, seconds: float) -> None:
        """Let the clock go on as it does while something computes and the loop waits for it."""
        self._clock.now += seconds


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine on such a loop. Fails where it has left a task behind."""
    loop = VirtualTimeLoop()
    try:
        result = loop.run_until_complete(work)
        for _ in range(3):  # iterators that were dropped are closed in the loop's next turns
            loop.run_until_complete(asyncio.sleep(0))
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    assert not left, f"left behind: {left}"
    return result


def in_virtual_time(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """Have a test run on such a loop."""

    @wraps(test)
    def inner(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        run(test(*args, **kwargs))

    return inner


@coroutine
def _count_and_cancel(work: Coroutine[Any, Any, Result], k: int, seen: list[int]) -> Generator[Any, Any, Result]:
    """Run a coroutine; when it suspends for the k-th time, counted from 0, cancel the task that it runs in."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            future = work.send(value) if error is None else work.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if seen[0] == k:
            task = asyncio.current_task()
            assert task
            task.cancel()
        seen[0] += 1
        value = error = None
        try:
            value = yield future
        except BaseException as thrown:
            error = thrown


async def cancel_at(work: Coroutine[Any, Any, Any], k: int) -> bool:
    """Run a coroutine in a task of its own, cancelled at its k-th suspension. False if it never came so far."""
    seen = [0]

    async def body() -> None:
        await _count_and_cancel(work, k, seen)

    task = asyncio.create_task(body())
    try:
        await task
    except asyncio.CancelledError:
        assert seen[0] > k
        return True
    assert seen[0] <= k, "the cancellation was lost"
    return False
