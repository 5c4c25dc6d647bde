"""All requests under way, in one event loop: TensorRT-LLM hands over what its engine made, and it is sent.

The loop has a thread of its own; `submit`, `look` and `close` may be called from any. The engine itself is another
process (executor/proxy.py of tensorrt_llm), so the loop never waits for a step.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from active import Active
from cores import cores
from faults import FAILED, GONE, INVALID_REQUEST, UNAVAILABLE, Fault
from guide import TEXT
from iterations import Iterations
from metrics import EngineMetrics
from outbox import Outbox, Outgoing, sending_threads
from pacing import Pace
from reply import Reply
from request import EngineRequest
from tensorrt_llm.llmapi import RequestError

# Sending delays what comes in by no more than this.
TURN_S = 0.005
# How soon to look again at a response whose time had not come.
PAUSE_S = 0.001
GUIDE_FAULT = "Guided decoding error"
"""How TensorRT-LLM begins what it says of a guide that it cannot follow (_torch/pyexecutor/guided_decoder.py)."""
NO_ROOM = "`default_max_tokens`"
"""And of a prompt that fills all of a KV cache that turned out smaller than the context (executor/base_worker.py)."""
STOPPING = Fault(UNAVAILABLE, "The server is stopping.")


class Streams:
    """Owns the LLM's requests; ends the process where the engine fails, so that whoever watches starts it anew."""

    def __init__(
        self,
        llm: Any,
        generate: Callable[[Active, int], Any],
        check_s: float,
        pace: Pace,
        metrics: EngineMetrics,
        log_error: Callable[[str], None],
    ) -> None:
        """`generate` has the LLM begin a request's sequence of that index; `check_s`: how often to see whether clients
        have left."""
        self._llm, self._generate, self._check_s = llm, generate, check_s
        self._metrics, self._log_error = metrics, log_error
        self._running: list[Active] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox = Outbox(pace, self._unsent, sending_threads(cores()))
        self._steps, self._used = 0, 0.0
        self._loop = asyncio.new_event_loop()
        self._ready = asyncio.Event()
        """Something is to be sent."""
        self._iterations = Iterations(llm, self._loop, self._count, log_error)
        self._thread = threading.Thread(target=self._run, name="streams")
        self._thread.start()

    def prime(self, first: Coroutine[Any, Any, None]) -> None:
        """Make the engine's first requests, and wait for them. Raises what they raise.

        They are made in the loop: the first request decides where statistics can be read, and one that was made without
        a loop leaves none for `get_stats_async` (IterationResult in executor/result.py of tensorrt_llm).
        """
        asyncio.run_coroutine_threadsafe(first, self._loop).result()
        self._loop.call_soon_threadsafe(self._iterations.begin)

    def submit(self, request: EngineRequest, reply: Reply, end: int | None) -> None:
        """Hand a request to the engine, whose answer that token ends."""
        self._loop.call_soon_threadsafe(self._begin, Active.of(request, reply, end))

    def look(self) -> None:
        """End the requests whose clients have said that they left."""
        self._loop.call_soon_threadsafe(self._cancel, lambda active: active.reply.left)

    def close(self) -> None:
        """End what is under way, and the loop."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._outbox.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for work in (self._send(), self._look()):
            self._spawn(self._guarded(work))
        self._loop.run_forever()

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self._fail(error)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self, active: Active) -> None:
        self._running.append(active)
        self._tell()
        for index, sequence in enumerate(active.sequences):
            sequence.followed = self._spawn(self._follow(active, index))

    async def _follow(self, active: Active, index: int) -> None:
        """Take one sequence from its beginning to its end."""
        sequence = active.sequences[index]
        try:
            if active.dropped:
                return
            sequence.result = self._generate(active, index)
            async for step in sequence.result:
                if active.dropped or sequence.finished:
                    return
                if step.outputs[0].finish_reason == "cancelled":
                    self._drop(active, fault=Fault(FAILED, "The engine gave the request up."))
                elif active.take(index, step):
                    self._outbox.put(active.outgoing)
                    self._ready.set()
        except (RequestError, ValueError) as error:
            self._drop(active, fault=_fault(str(error)))
        except (AssertionError, AttributeError, LookupError, TypeError) as error:
            # Of what one response has, such as a score that is missing (_handle_sequence in executor/result.py).
            self._log_error(f"A response cannot be read: {error!r}")
            self._drop(active, fault=Fault(FAILED, "The engine's response cannot be read."))
        except Exception as error:
            self._fail(error)

    async def _send(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._outbox:
                self._outbox.send(len(self._running), time.monotonic() + TURN_S)
                self._forget()
                # What is left waits for its time, or for another turn.
                await asyncio.sleep(PAUSE_S if self._outbox else 0)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._check_s)
            self._cancel(lambda active: active.reply.is_cancelled())
            if error := _ended(self._llm):
                self._fail(error)
                return

    def _count(self, statistics: Sequence[dict[str, Any]]) -> None:
        """Take how many steps the engine has made, which only its own loop tells."""
        for each in statistics:
            self._steps = int(each["iter"])
            if cache := each.get("kvCacheStats"):
                self._note_cache(*(int(cache[name]) for name in ("usedNumBlocks", "maxNumBlocks", "tokensPerBlock")))
        self._tell()

    def _note_cache(self, used: int, blocks: int, block_tokens: int) -> None:
        if blocks != self._metrics.kv_blocks:
            self._metrics.resize(blocks, block_tokens)
        self._used = 100 * used / blocks if blocks else 0.0

    def _tell(self) -> None:
        self._metrics.update(self._steps, len(self._running), self._used if self._running else 0.0)

    def _cancel(self, chosen: Callable[[Active], bool]) -> None:
        if gone := [active for active in self._running if chosen(active)]:
            self._drop(*gone, fault=GONE)

    def _drop(self, *gone: Active, fault: Fault | None) -> None:
        """Have the engine give requests up, all at once, and end them, with an error for clients that are still
        there."""
        dropped = [active for active in gone if not active.dropped]
        for active in dropped:
            active.dropped = True
            active.abort()
            active.leave()
            self._outbox.drop(active.outgoing)
            self._running.remove(active)
        self._tell()
        for active in dropped:
            if fault:
                active.reply.end(fault)

    def _unsent(self, outgoing: Outgoing, error: Exception) -> None:
        self._log_error(f"A response could not be sent: {error}")
        self._drop(*[active for active in self._running if active.outgoing is outgoing], fault=None)

    def _forget(self) -> None:
        """Leave alone those that have had their last response."""
        before = len(self._running)
        self._running = [each for each in self._running if each.outgoing.queued or not each.outgoing.finished]
        if len(self._running) != before:
            self._tell()

    def _fail(self, error: BaseException) -> None:
        self._log_error(f"The engine failed, and ends: {error!r}")
        with suppress(Exception):
            self._drop(*self._running, fault=Fault(FAILED, "The engine failed in a step."))
        os._exit(1)

    def _end(self) -> None:
        self._iterations.end()
        self._drop(*self._running, fault=STOPPING)
        for task in tuple(self._tasks):
            task.cancel()
        self._loop.call_soon(self._loop.stop)


def _ended(llm: Any) -> BaseException | None:
    """What the engine's processes have ended with, of which TensorRT-LLM itself tells only the next request
    (GenerationExecutorProxy in executor/proxy.py, 1.3.0rc3)."""
    processes = getattr(getattr(llm, "_executor", None), "mpi_futures", ())
    ended = (each for each in processes if each.done() and not each.cancelled())
    return next(filter(None, (each.exception() for each in ended)), None)


def _fault(text: str) -> Fault:
    """Whose fault an error is. The reader has checked the request, so mostly it is the engine's."""
    if GUIDE_FAULT in text:
        return Fault(INVALID_REQUEST, f"{TEXT} cannot be followed: {text.partition(': ')[2] or text}", TEXT)
    if NO_ROOM in text:
        return Fault(
            INVALID_REQUEST, "The prompt does not fit the KV cache: enlarge the cache or shorten it.", "input_ids"
        )
    return Fault(FAILED, text)
