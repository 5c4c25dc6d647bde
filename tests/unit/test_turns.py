"""Work is begun a few pieces in a turn of the event loop."""

import asyncio
from contextvars import ContextVar
from functools import partial

from bento_trtllm.generation.turns import Turns

MOST = 8

WHO = ContextVar[int]("WHO")


async def test_it_is_begun_a_few_a_turn_and_in_order() -> None:
    work, begun, turns = Turns(MOST), list[int](), list[int]()
    for number in range(2 * MOST + 1):
        work.begin(partial(begun.append, number))
    while len(begun) <= 2 * MOST and len(turns) < 9:
        turns.append(len(begun))
        await asyncio.sleep(0)
    assert turns == [MOST, 2 * MOST] and begun == list(range(2 * MOST + 1))
    # There is room again.
    await asyncio.sleep(0)
    work.begin(lambda: begun.append(-1))
    assert begun[-1] == -1


async def test_one_that_comes_while_others_wait_stands_behind_them() -> None:
    work, begun = Turns(MOST), list[str]()
    work.begin(lambda: work.begin(lambda: begun.append("of the first")))
    for _ in range(MOST):
        work.begin(lambda: begun.append("waits"))
    asyncio.get_running_loop().call_soon(work.begin, lambda: begun.append("last"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert begun == ["of the first", *["waits"] * MOST, "last"]


async def test_each_is_begun_with_the_context_that_it_came_with() -> None:
    work, found = Turns(MOST), list[int]()
    for number in range(2 * MOST):
        WHO.set(number)
        work.begin(lambda: found.append(WHO.get()))
    WHO.set(-1)
    await asyncio.sleep(0)
    assert found == list(range(2 * MOST))


async def test_who_waits_for_room_goes_on_when_there_is_and_one_who_left_takes_none_for_long() -> None:
    work, gone = Turns(2), list[int]()

    async def one(number: int) -> None:
        await work.room()
        gone.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await asyncio.sleep(0)
    assert gone == [0, 1]
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert gone == [0, 1, 3, 4, 5] and tasks[2].cancelled()
