"""Requests are begun a few in a turn of the event loop."""

import asyncio
from contextvars import ContextVar
from functools import partial

from bento_trtllm.bento.inflow import BEGUN, Inflow

WHO = ContextVar[int]("WHO")


async def test_answers_are_begun_a_few_a_turn_and_in_order() -> None:
    inflow, begun, turns = Inflow(), list[int](), list[int]()
    for number in range(2 * BEGUN + 1):
        inflow.begin(partial(begun.append, number))
    while len(begun) <= 2 * BEGUN and len(turns) < 9:
        turns.append(len(begun))
        await asyncio.sleep(0)
    assert turns == [BEGUN, 2 * BEGUN] and begun == list(range(2 * BEGUN + 1))
    # There is room again.
    await asyncio.sleep(0)
    inflow.begin(lambda: begun.append(-1))
    assert begun[-1] == -1


async def test_one_that_comes_while_others_wait_stands_behind_them() -> None:
    inflow, begun = Inflow(), list[str]()
    inflow.begin(lambda: inflow.begin(lambda: begun.append("of the first")))
    for _ in range(BEGUN):
        inflow.begin(lambda: begun.append("waits"))
    asyncio.get_running_loop().call_soon(inflow.begin, lambda: begun.append("last"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert begun == ["of the first", *["waits"] * BEGUN, "last"]


async def test_each_is_begun_with_the_context_that_it_came_with() -> None:
    inflow, found = Inflow(), list[int]()
    for number in range(2 * BEGUN):
        WHO.set(number)
        inflow.begin(lambda: found.append(WHO.get()))
    WHO.set(-1)
    await asyncio.sleep(0)
    assert found == list(range(2 * BEGUN))
