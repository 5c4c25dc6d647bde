"""The line for a slot: whoever leaves it, and whenever, no slot is lost and none is given twice."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.errors import Draining, QueueFull, WaitedTooLong
from bento_trtllm.generation.slots import OwnSlots
from tests.support.limits import LIMIT_S
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time

LONG_S = 60


async def hold(slot: AbstractAsyncContextManager[None], release: asyncio.Event) -> None:
    async with slot:
        await release.wait()


def in_line(admission: Admission, limit_s: float = LONG_S) -> tuple["asyncio.Task[None]", asyncio.Event]:
    release = asyncio.Event()
    return asyncio.create_task(hold(admission.slot(limit_s), release)), release


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_slots_are_given_in_order() -> None:
    admission = Admission(OwnSlots(1), 2)
    requests = [in_line(admission) for _ in range(3)]
    await settle()
    for left in (2, 1, 0):
        assert (admission.running, admission.waiting) == (1, left)
        task, release = requests[2 - left]
        release.set()
        await asyncio.wait_for(task, LIMIT_S)
    assert (admission.running, admission.waiting) == (0, 0)


async def test_wait_in_line_ends_with_an_error() -> None:
    admission = Admission(OwnSlots(1), 1)
    first, release = in_line(admission)
    await settle()
    with pytest.raises(WaitedTooLong, match=r"for 0\.05 s"):
        async with admission.slot(0.05):
            pytest.fail("there is one slot only")
    assert (admission.running, admission.waiting) == (1, 0)
    release.set()
    await first
    async with admission.slot(0.05):
        assert admission.running == 1


@pytest.mark.parametrize("granted", [False, True])
async def test_who_leaves_the_line_keeps_no_slot(granted: bool) -> None:
    """Also in the very moment in which its turn has come."""
    admission = Admission(OwnSlots(1), 2)
    first, release = in_line(admission)
    leaving, _ = in_line(admission)
    last, release_last = in_line(admission)
    await settle()
    if granted:
        release.set()
        await first  # which has handed its slot to `leaving`, whose task has not run yet
        assert admission.waiting == 1
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    release.set()
    await first
    await settle()
    assert (admission.running, admission.waiting) == (1, 0)
    release_last.set()
    await asyncio.wait_for(last, LIMIT_S)
    assert admission.running == 0


@pytest.mark.parametrize("turn_first", [False, True])
@in_virtual_time
async def test_turn_and_limit_in_one_moment(turn_first: bool) -> None:
    """Whichever is first counts, and the slot is there for the next one."""
    admission = Admission(OwnSlots(1), 1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    release = asyncio.Event()

    async def hold_until_due() -> None:
        async with admission.slot(LONG_S):
            await release.wait()
            if turn_first:  # the limit is due when the turn is given
                loop.compute(2)

    first = asyncio.create_task(hold_until_due())
    await settle()
    second, release_second = in_line(admission, 1)
    release_second.set()
    await settle()
    if not turn_first:
        loop.compute(2)
    loop.call_soon(release.set)
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert results[0] is None
    assert results[1] is None if turn_first else isinstance(results[1], WaitedTooLong)
    assert (admission.running, admission.waiting) == (0, 0)


async def test_stopping_sends_the_line_home() -> None:
    admission = Admission(OwnSlots(1), 1)
    first, release = in_line(admission)
    second, _ = in_line(admission)
    await settle()
    admission.dissolve()
    with pytest.raises(Draining, match="stopping"):
        await second
    with pytest.raises(Draining, match="stopping"):
        await asyncio.create_task(hold(admission.slot(LONG_S), release))
    assert (admission.running, admission.waiting) == (1, 0)
    release.set()
    await first
    assert admission.running == 0


async def test_who_leaves_the_line_makes_place_in_it_at_once() -> None:
    admission = Admission(OwnSlots(1), 1)
    told: list[tuple[int, int]] = []
    admission.changed = lambda: told.append((admission.running, admission.waiting))
    first, release = in_line(admission)
    leaving, _ = in_line(admission)
    await settle()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (admission.running, admission.waiting) == (1, 0)
    next_, release_next = in_line(admission)
    await settle()
    assert (admission.running, admission.waiting) == (1, 1)
    release.set()
    release_next.set()
    await asyncio.gather(first, next_)
    # Whoever shows the load is told of each change.
    assert told == [(1, 0), (1, 1), (1, 0), (1, 1), (1, 0), (0, 0)]


async def test_a_line_that_is_full_turns_away_at_once_and_names_how_many_there_are() -> None:
    admission = Admission(OwnSlots(2), 1)
    requests = [in_line(admission) for _ in range(3)]
    await settle()
    with pytest.raises(QueueFull, match="busy with 3 requests"):
        async with admission.slot(LONG_S):
            pytest.fail("there is no slot")
    for _, release in requests:
        release.set()
    await asyncio.gather(*(task for task, _ in requests))
    assert (admission.running, admission.waiting) == (0, 0)


async def test_an_error_inside_gives_the_slot_back() -> None:
    admission = Admission(OwnSlots(1), 0)
    for _ in range(3):
        with pytest.raises(ValueError, match="inside"):
            async with admission.slot(LONG_S):
                raise ValueError("inside")
    assert admission.running == 0


async def test_draining_keeps_those_in_line_and_dissolving_does_not() -> None:
    admission = Admission(OwnSlots(1), 1)
    first, release = in_line(admission)
    second, release_second = in_line(admission)
    await settle()
    admission.drain()
    assert admission.draining
    with pytest.raises(Draining):
        async with admission.slot(LONG_S):
            pytest.fail("it takes no more")
    release.set()
    release_second.set()
    await asyncio.gather(first, second)
    assert (admission.running, admission.waiting) == (0, 0)
