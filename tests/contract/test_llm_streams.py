"""How our Triton model goes on beside TensorRT-LLM's LLM, whatever that does with a request or with itself."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.limits import LIMIT_S
from tests.support.tiny import until


class Told:
    """An LLM that has statistics, and how it was asked for them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, str]] = []
        self.faults = [RuntimeError("no process")]

    def _note(self, how: str, timeout: float) -> None:
        self.asked.append((how, timeout, threading.current_thread().name))

    def get_stats(self, timeout: float) -> list[dict[str, Any]]:
        self._note("waits", timeout)
        if self.faults:
            raise self.faults.pop()
        return [{"iter": 1}, {"iter": 2}]

    async def get_stats_async(self, timeout: float) -> AsyncIterator[dict[str, Any]]:
        self._note("comes", timeout)
        for number in (1, 2):
            yield {"iter": number}


def test_nobody_waits_for_statistics(ours: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for them is never called in the loop; and where none may come for a while, none end."""
    monkeypatch.setattr(ours.iterations, "EVERY_S", 0.001)
    llm, noted, errors = Told(), list[int](), list[str]()

    async def run() -> None:
        loop, both = asyncio.get_running_loop(), asyncio.Event()

        def note(found: Sequence[dict[str, Any]]) -> None:
            noted.extend(each["iter"] for each in found)
            if len(noted) >= 2:
                both.set()

        iterations = ours.iterations.Iterations(llm, loop, note, errors.append)
        iterations.begin()
        await asyncio.wait_for(both.wait(), LIMIT_S)
        iterations.end()

    asyncio.run(run())
    assert noted[:2] == [1, 2]
    if ours.contract.DATA["version"] == "1.1.0":
        assert llm.asked[0] == ("comes", 86_400, threading.current_thread().name) and not errors
    else:
        assert llm.asked[0] == ("waits", 0, "iterations")
        assert errors == ["TensorRT-LLM has no statistics: RuntimeError('no process')"]


class Reply:
    """A client, who may leave; `ended` is what it was told at the end."""

    left = False

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def is_cancelled(self) -> bool:
        return False

    def end(self, fault: Any = None) -> None:
        self.ended.append(fault)


class Queued:
    """The result of a request that TensorRT-LLM has in its queue: nothing comes of it, not even when it is given up."""

    def __init__(self) -> None:
        self.aborted = threading.Event()

    def abort(self) -> None:
        self.aborted.set()

    def __aiter__(self) -> "Queued":
        return self

    async def __anext__(self) -> Any:
        await asyncio.Event().wait()


class Unreadable(Queued):
    async def __anext__(self) -> Any:
        raise AssertionError("logprobs length: 1 != output length: 2")


@pytest.fixture
def made(ours: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Streams of an LLM whose results are what a test puts there; `exits` are the codes this process would end with."""
    found = SimpleNamespace(exits=[], errors=[], results=[], process=Future())
    monkeypatch.setattr(ours.streams.os, "_exit", found.exits.append)
    llm = SimpleNamespace(_executor=SimpleNamespace(mpi_futures=[found.process]))
    metrics = SimpleNamespace(update=lambda *_: None)
    found.streams = ours.streams.Streams(
        llm, lambda *_: found.results.pop(), 0.001, ours.pacing.Pace(0, 0), metrics, found.errors.append
    )
    yield found
    found.streams.close()


def submit(ours: SimpleNamespace, made: SimpleNamespace, result: Any) -> Reply:
    made.results.append(result)
    reply = Reply()
    made.streams.submit(ours.request.EngineRequest(prompt=np.array([1, 2]), max_tokens=9), reply, 7)
    return reply


def test_a_request_that_is_given_up_in_the_queue_is_forgotten(ours: SimpleNamespace, made: SimpleNamespace) -> None:
    until(lambda: len(made.streams._tasks) == 2)  # what sends, and what looks
    result = Queued()
    reply = submit(ours, made, result)
    until(lambda: not made.results)
    assert len(made.streams._tasks) == 3
    reply.left = True
    made.streams.look()
    until(lambda: len(made.streams._tasks) == 2)
    assert result.aborted.is_set() and reply.ended == [ours.faults.GONE]
    assert not made.streams._running and not made.exits


def test_a_response_that_cannot_be_read_fails_its_request_alone(ours: SimpleNamespace, made: SimpleNamespace) -> None:
    other = submit(ours, made, Queued())
    until(lambda: not made.results)
    reply = submit(ours, made, Unreadable())
    until(lambda: reply.ended)
    assert [fault.code for fault in reply.ended] == [ours.faults.FAILED]
    assert "logprobs length" in made.errors[0]
    assert not other.ended and not made.exits


def test_an_error_of_the_engines_process_is_noticed_while_all_wait(
    ours: SimpleNamespace, made: SimpleNamespace
) -> None:
    reply = submit(ours, made, Queued())
    until(lambda: not made.results)
    assert not made.exits
    made.process.set_exception(RuntimeError("CUDA error"))
    until(lambda: made.exits)
    assert made.exits == [1] and [fault.code for fault in reply.ended] == [ours.faults.FAILED]
    assert "CUDA error" in made.errors[0]
