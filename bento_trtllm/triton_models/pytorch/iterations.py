"""What TensorRT-LLM's statistics tell: how many steps its engine has made, and how full its KV cache is.

From 1.2 on a call asks the engine's process for them and waits for it, without a limit; `get_stats_async` makes it as
well, before it returns, and would hold the loop (executor/proxy.py, 1.3.0rc3). So a thread asks, for which nobody
waits. 1.1 has them come by themselves, and tells no more of them once none has come for as long as it is given, until
there is another request (IterationResult in executor/result.py): it is given longer than any pause.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import tensorrt_llm

EVERY_S = 0.5
A_DAY_S = 86_400.0
ASKED_SINCE = (1, 2)

Note = Callable[[Sequence[dict[str, Any]]], None]


class Iterations:
    """Has them noted in a loop. Make it in any thread, and `begin` in the loop once there has been a request."""

    def __init__(self, llm: Any, loop: asyncio.AbstractEventLoop, note: Note, log_error: Callable[[str], None]) -> None:
        self._llm, self._loop, self._note, self._log_error = llm, loop, note, log_error
        self._over = threading.Event()
        self._reading: asyncio.Task[None] | None = None
        self._said = ""

    def begin(self) -> None:
        major, minor = tensorrt_llm.__version__.split(".")[:2]
        if (int(major), int(minor)) >= ASKED_SINCE:
            threading.Thread(target=self._ask, name="iterations", daemon=True).start()
        else:
            self._reading = self._loop.create_task(self._read())

    def end(self) -> None:
        """In the loop."""
        self._over.set()
        if self._reading:
            self._reading.cancel()

    def _ask(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                found = self._llm.get_stats(timeout=0)
            except Exception as error:
                self._tell(error)
            else:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    self._loop.call_soon_threadsafe(self._note, found)

    async def _read(self) -> None:
        while True:
            try:
                async for each in self._llm.get_stats_async(timeout=A_DAY_S):
                    self._note([each])
            except Exception as error:
                self._tell(error)
            await asyncio.sleep(EVERY_S)

    def _tell(self, error: Exception) -> None:
        """Once of each: the engine itself may be well, and if it is not, requests tell."""
        if repr(error) != self._said and not self._over.is_set():
            self._log_error(f"TensorRT-LLM has no statistics: {error!r}")
        self._said = repr(error)
