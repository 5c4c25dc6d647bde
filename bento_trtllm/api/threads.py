"""Runs long work in threads, since no stream moves while the event loop is busy."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Two, so that many long requests wait for each other and not the loop for all of them: each thread that runs Python
# takes a turn before the loop's next.
_threads = ThreadPoolExecutor(2, thread_name_prefix="api")
# How long such a turn is; Python's own is 5 ms.
TURN_S = 0.001


def take_short_turns() -> None:
    """Have threads hand over to the event loop sooner; for a process that serves."""
    sys.setswitchinterval(TURN_S)


async def in_thread(work: Callable[[], Result]) -> Result:
    """The result of work done in a thread. What has not begun when its request ends is never done."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
