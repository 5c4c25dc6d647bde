"""Slots for running requests, shared by the workers of a service: whose turn it is, is the same in all of them.

    <run folder>/slots          a table that all workers have mapped (slot_table.py), and the bytes that they lock in it
    <run folder>/wake-<number>  a FIFO that wakes one worker

Nothing is guarded by a lock that somebody holds while others wait for it, so a worker that is killed or stopped at any
instruction holds up nobody:

- A slot is a byte that its worker has locked. The kernel gives it to one only, and frees it when the worker dies,
  however. A worker that is stopped keeps its slots: its requests are in the engine.
- A worker alone writes its row of the table: of each client, how many of its requests run, how many wait, and since
  when the first does; and when it last looked. The next slot is for the client that has the fewest for its weight, and
  of equals for the one whose first has waited longest. Nobody takes a slot while it is another worker's turn, unless
  more are free than wait before it, or that one is dead, or has not looked for PATIENCE_S.
- Whoever frees a slot, or finds one free that is not for its own line, wakes the worker whose turn it is. All who have
  a line look every BEAT_S anyway.
"""

import asyncio
import mmap
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bento_trtllm.generation.client import Client
from bento_trtllm.generation.slots import Standing
from bento_trtllm.triton.process.byte_locks import foreign, lock, unlock
from bento_trtllm.triton.process.slot_table import SlotTable, Turn

BEAT_S = 0.05
PATIENCE_S = 0.3
MEMBERS_AT = 2**32
"""The byte that a worker locks for its row; those of slots begin at 0."""


class SharedSlots:
    """One worker's view of them: generation.slots.Slots. Until it is `open`, it gives as many as are wanted."""

    def __init__(self, limit: int, waiting: int, workers: int) -> None:
        """`limit` slots, and lines of at most so many, for so many workers; those that end and begin overlap."""
        self.limit = limit
        self.freed: Callable[[], object] = lambda: None
        self._rows = 2 * workers + 2
        # A client has an entry for as long as it has a request; one more is being looked at.
        self._entries = limit + 2 * waiting + 1
        self._row = 0
        self._file: int | None = None
        self._table: SlotTable
        self._here: dict[str, tuple[int, Standing]] = {}
        """The clients of this worker, with their entries."""
        self._names: dict[int, str] = {}
        """The other way round."""
        self._free_entries: list[int] = []
        self._waiting = 0
        self._folder = Path()
        self._held: set[int] = set()
        self._free_of_late: list[int] = []
        self._unshared: Counter[str] = Counter()
        self._fifo = -1
        self._others: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def open(self, folder: Path) -> None:
        """Join the workers that share this folder. In their event loop; again is as good as once.

        Raises OSError, also where the disk is full.
        """
        if self._file is not None:
            return
        file = os.open(folder / "slots", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            row = next((row for row in range(self._rows) if lock(file, MEMBERS_AT + row)), None)
            if row is None:
                raise OSError(f"{folder} has as many workers as it may")
            # By a descriptor of its own: a map keeps its file open, and so would keep the locks.
            table = SlotTable(folder / "slots", self._rows, self._entries)
            fifo = folder / f"wake-{row}"
            with suppress(FileExistsError):
                os.mkfifo(fifo, 0o600)
            self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        except BaseException:
            os.close(file)
            raise
        self._file, self._folder, self._table, self._row = file, folder, table, row
        for each in range(self._rows):
            if each == row or foreign(file, MEMBERS_AT + each) is None:
                table.clear(each)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fifo, self._woken)
        self._write_all()
        self.freed()

    def close(self) -> None:
        """Leave them, and free what is held."""
        if self._file is None:
            return
        self._table.clear(self._row)
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._fifo)
        for each in (self._file, self._fifo, *self._others.values()):
            os.close(each)
        self._file = None

    def take(self) -> str | None:
        """For the client whose turn it is, if it is that of one in line here."""
        if self._file is None:
            name = next((name for name, (_, standing) in self._here.items() if standing.waiting), None)
            if name is not None:
                self._unshared[name] += 1
            return name
        if self._all_run():
            return None
        turns = self._table.turns()  # before what runs, as there
        if (entry := self._turn_here(turns)) is None or (slot := self._lock_one(self._file)) is None:
            self._wake(turns)
            return None
        name = self._names[entry]
        self._held.add(slot)
        self._here[name][1].running += 1
        self._write(name)
        return name

    def give_back(self, client: Client) -> None:
        """Free a slot that was taken."""
        if self._unshared[client.name]:
            self._unshared[client.name] -= 1
            self._forget(client.name)
            return
        slot = self._held.pop()
        self._here[client.name][1].running -= 1
        if self._file is None:
            self._forget(client.name)
            return
        # In this order: whoever sees that all run finds a row in the line, or is found in it.
        self._write(client.name)
        unlock(self._file, slot)
        self._free_of_late.append(slot)
        if not self._waiting:  # else it is asked for next
            self._wake(self._table.turns())

    def show_line(self, client: Client, first: float | None, waiting: int) -> None:
        """How its line here is."""
        if client.name not in self._here:
            entry = self._free_entries.pop() if self._free_entries else len(self._here)
            self._here[client.name] = entry, Standing(client)
            self._names[entry] = client.name
        standing = self._here[client.name][1]
        fewer = waiting < standing.waiting
        self._waiting += waiting - standing.waiting
        standing.client, standing.first, standing.waiting = client, first or 0.0, waiting
        if self._file is None:
            self._forget(client.name)
            return
        if waiting and self._timer is None:
            self._beat()
        self._write(client.name)
        # Another may have left a free slot to who was in line here, and is next.
        if fewer and self._table.total("waiting") > self._waiting and not self._all_run():
            self._wake(self._table.turns())

    def elsewhere(self) -> tuple[int, int]:
        """Requests of the other workers: running, waiting."""
        if self._file is None:
            return 0, 0
        others = [row for row in range(self._rows) if row != self._row and self._is_alive(row)]
        running, waiting = (sum(self._table.row(column, row) for row in others) for column in ("running", "waiting"))
        return int(running), int(waiting)

    def running_elsewhere(self) -> int:
        """Requests that run in the other workers, as the table has it: cheap enough for every chunk of text."""
        if self._file is None:
            return 0
        return int(self._table.total("running")) - len(self._held)

    def crowd(self, client: Client) -> tuple[int, float]:
        """How many of its requests wait in all workers; and its part of all weights of those that wait."""
        if self._file is None:
            return self._here[client.name][1].waiting, 1.0
        return self._table.crowd(client)

    def standings(self) -> list[tuple[int, Standing]]:
        """What each client has in each worker."""
        if self._file is None:
            return []
        for row in range(self._rows):
            self._is_alive(row)
        return self._table.standings()

    def workers(self) -> list[tuple[int, int]]:
        """The number of each worker's row, and its process id."""
        if self._file is None:
            return []
        rows = [row for row in range(self._rows) if row == self._row or foreign(self._file, MEMBERS_AT + row)]
        return [(row, int(self._table.row("process", row))) for row in rows]

    def _beat(self) -> None:
        self._table.write_row(self._row, beat=self._loop.time())
        self._timer = self._loop.call_later(BEAT_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting:
            self._beat()
            for row in range(self._rows):
                self._is_alive(row)  # else a client's limit would count what died
            self._write_all()  # who cleared the row of the one that died may have been late
            self.freed()

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fifo, mmap.PAGESIZE)
        self.freed()
        if not self._waiting and not self._all_run():
            self._wake(self._table.turns())

    def _wake(self, turns: list[Turn]) -> None:
        """Wake the worker whose turn it is, unless it is this one."""
        row = next((turn.row for turn in turns if self._is_looking(turn.row)), self._row)
        if row == self._row:
            return
        with suppress(OSError):  # it has gone, or has been woken often enough
            if row not in self._others:
                self._others[row] = os.open(self._folder / f"wake-{row}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(self._others[row], b"!")

    def _turn_here(self, turns: list[Turn]) -> int | None:
        """The entry of the client here whose turn it is, or who leaves enough slots for all before it."""
        free = self.limit - self._table.total("running")
        before: Counter[float] = Counter()
        for turn in turns:
            if turn.row == self._row:
                ahead = before.total()
                if not ahead or (ahead < free and before[turn.client] < turn.left):
                    return turn.entry
            elif not self._is_looking(turn.row):
                continue
            before[turn.client] += int(turn.waiting)
        return None

    def _is_looking(self, row: int) -> bool:
        if row == self._row:
            return True
        quiet_s = self._loop.time() - self._table.row("beat", row)
        return quiet_s < 2 * BEAT_S or (quiet_s < PATIENCE_S and self._is_alive(row))

    def _is_alive(self, row: int) -> bool:
        """Whether a row has its worker, or nothing. One that died is cleared: nobody else will."""
        if row == self._row or not self._table.row("used", row):
            return True
        assert self._file is not None
        alive = foreign(self._file, MEMBERS_AT + row) is not None
        if not alive:
            self._table.clear(row)
        return alive

    def _all_run(self) -> bool:
        """Whether no slot is free, as the table has it."""
        if self._table.total("running") < self.limit:
            return False
        for row in range(self._rows):
            self._is_alive(row)
        return self._table.total("running") >= self.limit

    def _lock_one(self, file: int) -> int | None:
        """Lock a slot that is free: one that was this worker's, or the first from its own part of them on."""
        while self._free_of_late:
            if lock(file, slot := self._free_of_late.pop()):
                return slot
        begin = self._row * self.limit // self._rows
        for slot, end in ((begin, self.limit), (0, begin)):
            while slot < end:
                if slot not in self._held:
                    if lock(file, slot):
                        return slot
                    slot = foreign(file, slot) or slot  # noqa: PLW2901  its whole range is skipped
                slot += 1  # noqa: PLW2901
        return None

    def _write(self, name: str) -> None:
        """A client of this worker, and what all of them have together."""
        entry, standing = self._here[name]
        self._table.write(self._row, entry, standing)
        self._table.write_row(self._row, running=len(self._held), waiting=self._waiting)
        self._forget(name)

    def _write_all(self) -> None:
        self._table.write_row(self._row, process=os.getpid())
        for name in tuple(self._here):
            self._write(name)

    def _forget(self, name: str) -> None:
        entry, standing = self._here[name]
        if not standing.running and not standing.waiting and not self._unshared[name]:
            del self._here[name], self._names[entry], self._unshared[name]
            self._free_entries.append(entry)
            if not self._here and self._file is not None:
                self._free_entries.clear()
                self._table.write_row(self._row, used=0)
