"""Slots are shared among clients: one with many requests holds up nobody, in one worker or across several."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.client import CLIENT, Client
from bento_trtllm.generation.errors import QueueFull
from bento_trtllm.generation.slots import OwnSlots, Standing
from bento_trtllm.triton.process.shared_slots import BEAT_S, SharedSlots
from tests.support.virtual_time import in_virtual_time

LONG_S = 600.0
BUSY, QUIET = Client("busy"), Client("quiet")


class Service:
    """So many workers in one event loop, with `slots` and lines of `waiting` for all of them."""

    def __init__(self, folder: Path, slots: int, waiting: int, workers: int) -> None:
        self.shared = [SharedSlots(slots, waiting, workers) for _ in range(workers)] if workers > 1 else []
        self.workers = [Admission(each, waiting) for each in self.shared] or [Admission(OwnSlots(slots), waiting)]
        for each in self.shared:
            each.open(folder)
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.served: list[str] = []
        self.refused: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()

    def ask(self, client: Client, worker: int, seconds: float = 1) -> "asyncio.Task[None]":
        async def run() -> None:
            CLIENT.set(client)
            try:
                async with self.workers[worker % len(self.workers)].slot(LONG_S):
                    self.running[client.name] += 1
                    self.most[client.name] = max(self.most[client.name], self.running[client.name])
                    self.served.append(client.name)
                    try:
                        await asyncio.sleep(seconds)
                    finally:
                        self.running[client.name] -= 1
            except QueueFull:
                self.refused[client.name] += 1

        task = asyncio.create_task(run())
        self.tasks.add(task)
        return task

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert [(worker.running, worker.waiting) for worker in self.workers] == [(0, 0)] * len(self.workers)
        for each in self.shared:
            assert each.standings() == []
            each.close()


def lengths() -> Iterator[float]:
    """Of answers, in seconds: as many as are wanted, and not in step."""
    while True:
        yield from (0.6, 1.1, 0.9, 1.3, 0.7, 1.4)


@pytest.mark.parametrize("workers", [1, 3])
@in_virtual_time
async def test_one_request_beside_five_hundred_waits_for_one_slot(tmp_path: Path, workers: int) -> None:
    service = Service(tmp_path, 16, 500, workers)
    for number, seconds in zip(range(500), lengths(), strict=False):
        service.ask(BUSY, number, seconds)
    await asyncio.sleep(3)
    for number in range(10):
        began = asyncio.get_running_loop().time()
        await service.ask(QUIET, number, 1.0)
        assert asyncio.get_running_loop().time() - began < 1.3
        await asyncio.sleep(0.001)  # for the next one to begin
        assert service.running.total() == 16, "a slot is free and somebody waits"
    await service.end()


@pytest.mark.parametrize("workers", [1, 3])
@in_virtual_time
async def test_slots_go_by_weight_and_no_client_has_more_than_it_may(tmp_path: Path, workers: int) -> None:
    service = Service(tmp_path, 14, 1000, workers)
    clients = [Client("one"), Client("three", 3), Client("bounded", 100, 2)]
    for number, seconds in zip(range(600), lengths(), strict=False):
        service.ask(clients[number % 3], number // 3, seconds)
    await asyncio.sleep(3)
    shares = []
    for _ in range(20):
        await asyncio.sleep(0.5037)
        shares.append([service.running[client.name] for client in clients])
        assert sum(shares[-1]) == 14
    assert service.most["bounded"] == 2
    one, three, _ = (sum(column) / len(shares) for column in zip(*shares, strict=True))
    assert three / one == pytest.approx(3, rel=0.1)
    await service.end()


@pytest.mark.parametrize("workers", [1, 2])
@in_virtual_time
async def test_slots_that_nobody_else_wants_are_used(tmp_path: Path, workers: int) -> None:
    service = Service(tmp_path, 8, 100, workers)
    light, heavy = Client("light", 0.01), Client("heavy", 100)
    for number in range(20):
        service.ask(light, number)
    await asyncio.sleep(0.5)
    assert service.running["light"] == 8
    for number in range(4):
        service.ask(heavy, number)
    await asyncio.sleep(1)
    assert service.running == {"light": 4, "heavy": 4}
    await service.end()


@pytest.mark.parametrize("workers", [1, 2])
@in_virtual_time
async def test_who_fills_the_line_leaves_room_for_others(tmp_path: Path, workers: int) -> None:
    service = Service(tmp_path, 2, 6, workers)
    for number in range(20):
        service.ask(BUSY, number, 100)
    await asyncio.sleep(0.1)
    assert service.refused == {"busy": 12}
    early = service.workers[0]
    with pytest.raises(QueueFull, match="busy with 8 requests"):
        early.refuse_early(BUSY)
    early.refuse_early(QUIET)
    for number in range(5):
        service.ask(QUIET, number, 100)
    await asyncio.sleep(0.1)
    assert service.refused == {"busy": 12, "quiet": 2}  # half of six places
    for number in range(20):  # and all of them together not more than twice the line
        service.ask(Client(f"other {number}"), number, 100)
    await asyncio.sleep(0.1)
    assert sum(worker.waiting for worker in service.workers) == 12
    with pytest.raises(QueueFull):
        early.refuse_early(Client("one more"))
    await service.end()


@in_virtual_time
async def test_who_is_refused_is_told_to_come_when_the_line_has_been_served(tmp_path: Path) -> None:
    service = Service(tmp_path, 2, 10, 1)
    for number in range(100):
        service.ask(Client(f"earlier {number % 5}"), 0, 4)
        await asyncio.sleep(2.001)
    for number in range(12):
        service.ask(BUSY, number, 4)
    await asyncio.sleep(0.1)
    told = []
    for _ in range(50):
        with pytest.raises(QueueFull) as error:
            service.workers[0].refuse_early(BUSY)
        assert f"try again in {error.value.retry_s} s." in str(error.value)
        told.append(error.value.retry_s)
    # Ten in line, and a slot every two seconds.
    assert min(told) >= 10
    assert max(told) <= 30
    assert len(set(told)) > 5
    await service.end()


@pytest.mark.parametrize("workers", [1, 2])
@in_virtual_time
async def test_those_who_are_refused_come_back_as_slots_come_free(tmp_path: Path, workers: int) -> None:
    """And not all together, to be refused again: each refusal takes of the cores that answers need."""
    service = Service(tmp_path, 4, 8, workers)
    answered = refused = 0

    async def polite(number: int) -> None:
        nonlocal answered, refused
        CLIENT.set(Client(f"address {number % 3}"))
        await asyncio.sleep(number / 10)
        while True:
            try:
                async with service.workers[number % workers].slot(LONG_S):
                    await asyncio.sleep(2)
                answered += 1
            except QueueFull as error:
                refused += 1
                await asyncio.sleep(error.retry_s)

    service.tasks.update(asyncio.create_task(polite(number)) for number in range(30))
    await asyncio.sleep(60)  # until it is known how long an answer takes
    answered = refused = 0
    await asyncio.sleep(200)
    assert answered > 0.98 * 200 / 2 * 4, "slots were free while others had been told to come later"
    assert refused < 0.7 * answered
    await service.end()


@in_virtual_time
async def test_a_killed_worker_takes_nothing_of_its_clients_limits_along(tmp_path: Path) -> None:
    service = Service(tmp_path, 8, 10, 2)
    bounded = Client("bounded", 1, 2)
    for _ in range(2):
        service.ask(bounded, 0, 1000)
    waiting = service.ask(bounded, 1)
    await asyncio.sleep(1)
    assert not waiting.done()
    assert service.running["bounded"] == 2
    killed = service.shared[0]
    asyncio.get_running_loop().remove_reader(killed._fifo)
    table = killed._table
    killed.close()
    table.write(0, 0, _two_running(bounded))  # what SIGKILL leaves behind
    await asyncio.sleep(2 * BEAT_S)
    assert service.running["bounded"] == 3
    await waiting
    for task in service.tasks:
        task.cancel()
    await asyncio.gather(*service.tasks, return_exceptions=True)
    service.shared[1].close()


def _two_running(client: Client) -> Standing:
    return Standing(client, running=2)
