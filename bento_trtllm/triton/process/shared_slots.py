"""Slots for running requests, shared by the workers of a service: one line for all of them, the longest waiting first.

    <run folder>/slots          a table that all workers have mapped, and the bytes that they lock in it
    <run folder>/wake-<number>  a FIFO that wakes one worker

Nothing is guarded by a lock that somebody holds while others wait for it, so a worker that is killed or stopped at any
instruction holds up nobody:

- A slot is a byte that its worker has locked. The kernel gives it to one only, and frees it when the worker dies,
  however. A worker that is stopped keeps its slots: its requests are in the engine.
- A worker alone writes its row of the table: since when its first in line waits, how many wait, how many run, and when
  it last looked. Nobody takes a slot while another row has waited longer, unless that worker is dead, or has not
  looked for PATIENCE_S.
- Whoever frees a slot wakes the worker whose first has waited longest. All who have a line look every BEAT_S anyway.

Locks are those of open file descriptions (fcntl(2), "Open file description locks").
"""

import asyncio
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BEAT_S = 0.05
PATIENCE_S = 0.3
FLOCK = "hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, process."""
# Columns of the table, which has a row a worker: double precision, which processors write at once.
FIRST, BEAT, WAITING, RUNNING = range(4)
NOBODY = float("inf")
MEMBERS_AT = 2**32
"""The byte that a worker locks for its row; those of slots begin at 0."""


class SharedSlots:
    """One worker's view of them: generation.admission.Slots. Until it is `open`, it gives as many as are wanted."""

    def __init__(self, limit: int, workers: int) -> None:
        """`limit` slots for at most so many workers; those that end and those that begin overlap."""
        self.limit = limit
        self.freed: Callable[[], object] = lambda: None
        self._rows = 2 * workers + 2
        self._row = 0
        self._file: int | None = None
        self._table: memoryview[float] = memoryview(b"").cast("d")
        self._line: tuple[float, int] = NOBODY, 0
        """FIRST and WAITING of this worker."""
        self._folder = Path()
        self._held: set[int] = set()
        self._free_of_late: list[int] = []
        self._unshared = 0
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
            os.posix_fallocate(file, 0, 8 * 4 * self._rows)  # else a full disk kills whoever writes to the map
            row = next((row for row in range(self._rows) if _lock(file, MEMBERS_AT + row)), None)
            if row is None:
                raise OSError(f"{folder} has as many workers as it may")
            with (folder / "slots").open("r+b") as again:  # a map keeps its file open, and so would keep the locks
                table = memoryview(mmap.mmap(again.fileno(), 0)).cast("d")
            fifo = folder / f"wake-{row}"
            with suppress(FileExistsError):
                os.mkfifo(fifo, 0o600)
            self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        except BaseException:
            os.close(file)
            raise
        self._file, self._folder, self._table, self._row = file, folder, table, row
        for each in range(self._rows):
            if each == row or _foreign(file, MEMBERS_AT + each) is None:
                self._clear(each)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fifo, self._woken)
        self.freed()

    def close(self) -> None:
        """Leave them, and free what is held."""
        if self._file is None:
            return
        self._clear(self._row)
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._fifo)
        for each in (self._file, self._fifo, *self._others.values()):
            os.close(each)
        self._file = None

    def take(self, since: float) -> bool:
        """Take a slot for who has waited since then, by the event loop's clock.

        False where none is free, or where somebody has waited longer in another worker.
        """
        if self._file is None:
            self._unshared += 1
            return True
        if self._longest(before=since) is not None or (slot := self._lock_one(self._file)) is None:
            return False
        self._held.add(slot)
        self._write(RUNNING, len(self._held))
        return True

    def give_back(self) -> None:
        """Free a slot that was taken."""
        if self._unshared:
            self._unshared -= 1
            return
        slot = self._held.pop()
        if self._file is None:
            return
        # In this order: whoever sees that all run finds a row in the line, or is found in it.
        self._write(RUNNING, len(self._held))
        _unlock(self._file, slot)
        self._free_of_late.append(slot)
        self._wake_longest()

    def show_line(self, first: float | None, waiting: int) -> None:
        """Since when the first in line of this worker waits, and how many do."""
        self._line = NOBODY if first is None else first, waiting
        if self._file is None:
            return
        if first is not None and self._timer is None:
            self._beat()
        self._write_line()

    def elsewhere(self) -> tuple[int, int]:
        """Requests of the other workers: running, waiting."""
        if self._file is None:
            return 0, 0
        others = [row for row in range(self._rows) if row != self._row and self._is_alive(row)]
        return int(sum(self._at(RUNNING, row) for row in others)), int(sum(self._at(WAITING, row) for row in others))

    def running_elsewhere(self) -> int:
        """Requests that run in the other workers, as the table has it: cheap enough for every chunk of text."""
        if self._file is None:
            return 0
        return int(self._sum(RUNNING)) - len(self._held)

    def _beat(self) -> None:
        self._write(BEAT, self._loop.time())
        self._timer = self._loop.call_later(BEAT_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._line[1]:
            self._beat()
            self._write_line()  # who cleared the row of the one that died may have been late
            self.freed()

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fifo, mmap.PAGESIZE)
        self.freed()
        if not self._all_run():
            self._wake_longest()

    def _wake_longest(self) -> None:
        """Wake the worker whose first has waited longest, unless it is this one."""
        row = self._longest(before=self._line[0])
        if row is None:
            return
        with suppress(OSError):  # it has gone, or has been woken often enough
            if row not in self._others:
                self._others[row] = os.open(self._folder / f"wake-{row}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(self._others[row], b"!")

    def _longest(self, before: float) -> int | None:
        """The other row whose first has waited longest, if since before that time."""
        firsts = self._table[FIRST * self._rows : (FIRST + 1) * self._rows].tolist()
        waiting = sorted((first, row) for row, first in enumerate(firsts) if first < before and row != self._row)
        return next((row for _, row in waiting if self._is_looking(row)), None)

    def _is_looking(self, row: int) -> bool:
        quiet_s = self._loop.time() - self._at(BEAT, row)
        return quiet_s < 2 * BEAT_S or (quiet_s < PATIENCE_S and self._is_alive(row))

    def _is_alive(self, row: int) -> bool:
        """Whether a row has its worker. One that died is cleared: nobody else will."""
        if not any(self._at(column, row) != empty for column, empty in ((RUNNING, 0), (WAITING, 0), (FIRST, NOBODY))):
            return True
        assert self._file is not None
        alive = row == self._row or _foreign(self._file, MEMBERS_AT + row) is not None
        if not alive:
            self._clear(row)
        return alive

    def _all_run(self) -> bool:
        """Whether no slot is free, as the table has it."""
        if self._sum(RUNNING) < self.limit:
            return False
        for row in range(self._rows):
            self._is_alive(row)
        return self._sum(RUNNING) >= self.limit

    def _lock_one(self, file: int) -> int | None:
        """Lock a slot that is free: one that was this worker's, or the first from its own part of them on."""
        if self._all_run():
            return None
        while self._free_of_late:
            if _lock(file, slot := self._free_of_late.pop()):
                return slot
        begin = self._row * self.limit // self._rows
        for slot, end in ((begin, self.limit), (0, begin)):
            while slot < end:
                if slot not in self._held:
                    if _lock(file, slot):
                        return slot
                    slot = _foreign(file, slot) or slot  # noqa: PLW2901  its whole range is skipped
                slot += 1  # noqa: PLW2901
        return None

    def _write_line(self) -> None:
        first, waiting = self._line
        self._write(WAITING, waiting)
        self._write(FIRST, first)

    def _sum(self, column: int) -> float:
        return sum(self._table[column * self._rows : (column + 1) * self._rows].tolist())

    def _at(self, column: int, row: int) -> float:
        return self._table[column * self._rows + row]

    def _write(self, column: int, value: float) -> None:
        self._table[column * self._rows + self._row] = value

    def _clear(self, row: int) -> None:
        for column, empty in ((FIRST, NOBODY), (WAITING, 0.0), (RUNNING, 0.0), (BEAT, 0.0)):
            self._table[column * self._rows + row] = empty


def _lock(file: int, byte: int) -> bool:
    """Lock it if nobody else has; what is locked by this file description already is so again."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(file: int, byte: int) -> None:
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


def _foreign(file: int, byte: int) -> int | None:
    """The last byte of the range that another has locked, if this one is; None if not."""
    asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, start, length, _ = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(start + length - 1)
