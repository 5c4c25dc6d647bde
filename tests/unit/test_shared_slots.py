"""Slots that workers share: one line for all of them, and a worker that dies or is stopped holds up nobody.

A worker is an Admission with its own descriptors of the same files, as in a process of its own. To kill one is to close
its files, which is what the kernel does; to stop one is to have its timers and wakes do nothing.
"""

import asyncio
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.client import CLIENT, Client
from bento_trtllm.generation.errors import QueueFull
from bento_trtllm.triton.process import slot_table
from bento_trtllm.triton.process.shared_slots import BEAT_S, PATIENCE_S, SharedSlots
from bento_trtllm.triton.process.slot_table import Turn
from tests.support.virtual_time import in_virtual_time

LONG_S = 600.0


class Worker:
    """One of `workers`, in the loop of all of them."""

    def __init__(self, folder: Path, running: int, waiting: int = 100, workers: int = 4) -> None:
        self.slots = SharedSlots(running, waiting, workers)
        self.admission = Admission(self.slots, waiting)
        self.slots.open(folder)
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, seconds: float, done: list[object] | None = None, name: object = None) -> None:
        """A request that runs so long once it has a slot; its name is put into `done` when it has."""

        async def run() -> None:
            async with self.admission.slot(LONG_S):
                if done is not None:
                    done.append(name)
                await asyncio.sleep(seconds)

        self.tasks.append(asyncio.create_task(run()))

    def stop(self) -> None:
        """As SIGSTOP: it looks no longer, hears nothing, and keeps what it has."""
        asyncio.get_running_loop().remove_reader(self.slots._fifo)
        if self.slots._timer:
            self.slots._timer.cancel()

    def kill(self) -> None:
        """As SIGKILL: the kernel closes its files."""
        self.stop()
        assert self.slots._file is not None
        os.close(self.slots._file)
        os.close(self.slots._fifo)
        self.slots._file = None
        for task in self.tasks:
            task.cancel()

    async def end(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.slots.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@in_virtual_time
async def test_one_worker_may_have_all_slots_and_no_more_are_given_than_there_are(tmp_path: Path) -> None:
    workers = [Worker(tmp_path, 6) for _ in range(4)]
    for _ in range(6):
        workers[0].ask(10)
    await settle()
    assert workers[0].admission.running == 6
    for worker in workers:
        for _ in range(5):
            worker.ask(10)
    most = 0
    for _ in range(400):
        await asyncio.sleep(0.1)
        await settle()
        running = sum(worker.admission.running for worker in workers)
        most = max(most, running)
        waiting = sum(worker.admission.waiting for worker in workers)
        assert running == 6 or not waiting, "a slot is free and somebody waits"
    assert most == 6
    await asyncio.gather(*(worker.end() for worker in workers))


@in_virtual_time
async def test_the_line_is_one_for_all_workers_in_the_order_of_arrival(tmp_path: Path) -> None:
    workers = [Worker(tmp_path, 2) for _ in range(3)]
    done: list[object] = []
    for number in range(30):
        workers[(number * 7 + number // 5) % 3].ask(1, done, number)
        await asyncio.sleep(0.001)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(worker.end() for worker in workers))
    assert done == [*range(30)]
    # Nobody waited for a timer: fifteen turns of a second each.
    assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=0.05)


@pytest.mark.parametrize("leaves", [True, False], ids=["both leave the line", "one takes a slot and one leaves"])
@in_virtual_time
async def test_who_left_a_free_slot_to_another_is_next(tmp_path: Path, leaves: bool) -> None:
    """Without a wait for the next beat: three come together, and there is room for two."""
    first, second = Worker(tmp_path, 2), Worker(tmp_path, 2)
    client = CLIENT.get()
    first.slots.show_line(client, -1.0, 2)  # they have not yet looked whether a slot is free
    done: list[object] = []
    second.ask(1, done, "second")
    await settle()
    assert done == []
    if not leaves:
        assert first.slots.take() == client.name
        first.slots.show_line(client, -1.0, 1)
        await settle()
        assert done == []
    first.slots.show_line(client, None, 0)
    await settle()
    assert done == ["second"]
    if not leaves:
        first.slots.give_back(client)
    await asyncio.gather(first.end(), second.end())


@in_virtual_time
async def test_a_free_slot_wakes_whose_turn_it_is_and_nobody_else(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, 1), Worker(tmp_path, 1)
    client = CLIENT.get()
    asyncio.get_running_loop().remove_reader(second.slots._fifo)

    def woken() -> bytes:
        with suppress(BlockingIOError):
            return os.read(second.slots._fifo, 100)
        return b""

    first.slots.show_line(client, -3.0, 2)
    assert first.slots.take() == client.name
    first.slots.show_line(client, -2.0, 1)
    second.slots.show_line(client, -1.0, 1)
    first.slots.give_back(client)
    assert first.slots.take() == client.name
    assert not woken()

    first.slots.show_line(client, 0.0, 1)
    first.slots.give_back(client)
    assert first.slots.take() is None
    assert woken() == b"!"
    first.slots.show_line(client, None, 0)
    assert second.slots.take() == client.name
    second.slots.show_line(client, None, 0)
    second.slots.give_back(client)
    await asyncio.gather(first.end(), second.end())


@in_virtual_time
async def test_who_leaves_enough_slots_for_all_before_it_waits_for_none_of_them(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, 3), Worker(tmp_path, 3)
    client = CLIENT.get()
    first.slots.show_line(client, -1.0, 2)  # they have not yet looked whether a slot is free
    done: list[object] = []
    second.ask(1, done, "there is one more")
    await settle()
    assert done == ["there is one more"]
    second.ask(1, done, "there is none more")
    await settle()
    assert len(done) == 1
    assert [first.slots.take() for _ in range(3)] == [client.name, client.name, None]
    first.slots.show_line(client, None, 0)
    await asyncio.sleep(2)
    assert len(done) == 2
    for _ in range(2):
        first.slots.give_back(client)
    await asyncio.gather(first.end(), second.end())


@in_virtual_time
async def test_a_client_with_a_limit_waits_for_those_of_its_own_before_it(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, 9), Worker(tmp_path, 9)
    limited = Client("limited", max_running=1)
    first.slots.show_line(limited, -1.0, 1)  # it has not yet looked whether a slot is free
    second.slots.show_line(limited, 0.0, 1)
    assert second.slots.take() is None
    other = Client("other")
    second.slots.show_line(other, 1.0, 1)
    assert second.slots.take() == "other"
    second.slots.show_line(other, None, 0)
    assert first.slots.take() == "limited"
    first.slots.show_line(limited, None, 0)
    assert second.slots.take() is None
    first.slots.give_back(limited)
    assert second.slots.take() == "limited"
    second.slots.show_line(limited, None, 0)
    for client in (limited, other):
        second.slots.give_back(client)
    await asyncio.gather(first.end(), second.end())


@in_virtual_time
async def test_who_takes_a_slot_while_another_counts_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [Worker(tmp_path, 2) for _ in range(3)]
    first, second, third = (each.slots for each in workers)
    client = CLIENT.get()
    for place, slots in enumerate((first, second, third)):
        slots.show_line(client, float(place), 1)
    turns = third._table.turns

    def meanwhile() -> list[Turn]:
        assert second.take() == client.name
        second.show_line(client, None, 0)
        return turns()

    monkeypatch.setattr(third._table, "turns", meanwhile)
    assert third.take() is None, "the last free one is the first's"
    assert first.take() == client.name
    first.show_line(client, None, 0)
    third.show_line(client, None, 0)
    for slots in (first, second):
        slots.give_back(client)
    for each in workers:
        await each.end()


@in_virtual_time
async def test_a_limit_holds_where_another_worker_takes_a_slot_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Worker(tmp_path, 9), Worker(tmp_path, 9)
    limited = Client("limited", max_running=1)
    first.slots.show_line(limited, 0.0, 1)
    second.slots.show_line(limited, 1.0, 1)
    count = slot_table._sum_by_client

    def count_first(clients: list[float], running: list[float]) -> dict[float, float]:
        monkeypatch.setattr(slot_table, "_sum_by_client", count)
        found = count(clients, running)
        assert first.slots.take() == "limited"
        first.slots.show_line(limited, None, 0)
        return found

    monkeypatch.setattr(slot_table, "_sum_by_client", count_first)
    assert second.slots.take() is None
    second.slots.show_line(limited, None, 0)
    first.slots.give_back(limited)
    for each in (first, second):
        await each.end()


@in_virtual_time
async def test_a_killed_worker_frees_its_slots_and_its_places_at_once(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, 4, waiting=6, workers=2), Worker(tmp_path, 4, waiting=6, workers=2)
    for _ in range(7):  # three of them in line
        first.ask(1000)
    await settle()
    done: list[object] = []
    for number in range(3):
        second.ask(1, done, number)
    await settle()
    with pytest.raises(QueueFull, match="busy with 10 requests"):
        async with second.admission.slot(LONG_S):
            pytest.fail("the line of the service is full")
    assert done == []
    first.kill()
    await asyncio.sleep(2 * BEAT_S)
    assert done == [0, 1, 2]
    # The one in its place begins with nothing.
    third = Worker(tmp_path, 4, waiting=6, workers=2)
    assert third.slots.elsewhere() == (3, 0)
    assert (third.slots.running_elsewhere(), second.slots.running_elsewhere()) == (3, 0)
    third.ask(1, done, "third")
    await settle()
    assert done[-1] == "third"
    await asyncio.gather(second.end(), third.end())


@in_virtual_time
async def test_a_stopped_worker_keeps_its_slots_and_holds_up_nobody(tmp_path: Path) -> None:
    stopped, running = Worker(tmp_path, 2), Worker(tmp_path, 2)
    done: list[object] = []
    stopped.ask(1000)
    running.ask(5)
    await asyncio.sleep(1)
    stopped.ask(1, done, "of the stopped")  # the first in line
    await asyncio.sleep(1)
    running.ask(1, done, "of the other")
    await settle()
    stopped.stop()
    await asyncio.sleep(3 + PATIENCE_S + 2 * BEAT_S)
    assert done == ["of the other"]
    assert stopped.admission.running == 1
    await asyncio.sleep(5)
    running.ask(1, done, "later")
    await settle()
    assert done == ["of the other", "later"]
    await asyncio.sleep(2)
    stopped.slots._look()  # goes on
    await settle()
    assert done[-1] == "of the stopped"
    for task in stopped.tasks:
        task.cancel()
    await asyncio.gather(stopped.end(), running.end())


@in_virtual_time
async def test_slots_that_come_free_together_go_to_workers_that_wait_together(tmp_path: Path) -> None:
    holder, *others = [Worker(tmp_path, 8) for _ in range(5)]
    done: Counter[int] = Counter()
    for _ in range(8):
        holder.ask(10)
    await settle()

    async def ask(number: int) -> None:
        async with others[number].admission.slot(LONG_S):
            done[number] += 1
            await asyncio.sleep(10)

    asks = [asyncio.create_task(ask(number)) for _ in range(2) for number in range(4)]
    await asyncio.sleep(10.001)
    assert done == dict.fromkeys(range(4), 2)
    await asyncio.gather(*asks, *(worker.end() for worker in (holder, *others)))


@in_virtual_time
async def test_who_leaves_gives_back_and_another_may_come(tmp_path: Path) -> None:
    for _ in range(20):  # more than there are rows
        worker = Worker(tmp_path, 2, workers=1)
        worker.ask(1)
        await worker.end()
    last = Worker(tmp_path, 2, workers=1)
    assert last.slots.elsewhere() == (0, 0)
    crowd = [Worker(tmp_path, 2, workers=1) for _ in range(3)]
    with pytest.raises(OSError, match="as many workers as it may"):
        Worker(tmp_path, 2, workers=1)
    await asyncio.gather(*(worker.end() for worker in (last, *crowd)))


@in_virtual_time
async def test_before_the_folder_is_there_nobody_waits(tmp_path: Path) -> None:
    """There is no engine then either, and whoever comes is to hear that."""
    slots = SharedSlots(1, 0, 2)
    admission = Admission(slots, 0)
    async with admission.slot(LONG_S), admission.slot(LONG_S):
        with suppress(FileNotFoundError):
            slots.open(tmp_path / "missing")
        slots.open(tmp_path)
    assert admission.running == 0
    async with admission.slot(LONG_S):
        with pytest.raises(QueueFull):
            async with admission.slot(LONG_S):
                pytest.fail("there is one slot")
    slots.close()
