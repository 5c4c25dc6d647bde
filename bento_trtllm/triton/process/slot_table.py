"""What each client has in each worker, in memory that all workers have mapped.

A worker alone writes its row, a number at a time, which processors write at once. Others read it while it is written:
what they see may be a moment old, and is never a mixture of two numbers.
"""

import mmap
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bento_trtllm.generation.client import Client, turn
from bento_trtllm.generation.slots import Standing

NAME_BYTES = 64
ROW_COLUMNS = ("beat", "process", "used", "running", "waiting")
"""Of a worker: when it last looked, its process id, how many entries it has used, and its requests in all."""
CELL_COLUMNS = ("client", "weight", "most", "running", "waiting", "first")
"""Of a client in a worker: a hash of its name, its weight and limit, its requests, and since when the first waits."""


class Turn(NamedTuple):
    """One that waits and may have one more: an entry of a row, with how many of its requests wait.

    `client` is the hash of its name; `left` says how many more of its requests may run.
    """

    row: int
    entry: int
    client: float
    waiting: float
    left: float


class SlotTable:
    """Rows are workers, and the entries of a row are clients."""

    def __init__(self, path: Path, rows: int, entries: int) -> None:
        """Raises OSError, also where the disk is full."""
        self.rows = rows
        cells = rows * entries
        size = 8 * (len(ROW_COLUMNS) * rows + len(CELL_COLUMNS) * cells) + NAME_BYTES * cells
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # else a full disk kills whoever writes to the map
            self._memory = mmap.mmap(file.fileno(), size)
        at = 0
        self._by_row: dict[str, NDArray[Any]] = {}
        for column in ROW_COLUMNS:
            self._by_row[column] = np.frombuffer(self._memory, np.float64, rows, at)
            at += 8 * rows
        columns = len(CELL_COLUMNS)
        self._cells = np.frombuffer(self._memory, np.float64, columns * cells, at).reshape(columns, rows, entries)
        self._by_cell = dict(zip(CELL_COLUMNS, self._cells, strict=True))
        at += self._cells.nbytes
        self._names = np.frombuffer(self._memory, f"S{NAME_BYTES}", cells, at).reshape(rows, entries)

    def row(self, column: str, row: int) -> float:
        """A number of a worker."""
        return float(self._by_row[column][row])

    def total(self, column: str) -> float:
        """The sum of all workers'."""
        return float(sum(self._by_row[column].tolist()))

    def write_row(self, row: int, **values: float) -> None:
        """Numbers of a worker."""
        for column, value in values.items():
            self._by_row[column][row] = value

    def write(self, row: int, entry: int, standing: Standing) -> None:
        """What a client has in a worker."""
        client, cells = standing.client, self._by_cell
        key = _hash(client.name)
        if cells["client"][row, entry] != key:
            cells["waiting"][row, entry] = 0
            self._names[row, entry] = client.name.encode()[:NAME_BYTES]
            cells["client"][row, entry] = key
        self._by_row["used"][row] = max(self._by_row["used"][row], entry + 1)
        cells["weight"][row, entry] = client.weight
        cells["most"][row, entry] = client.max_running
        cells["running"][row, entry] = standing.running
        cells["first"][row, entry] = standing.first
        cells["waiting"][row, entry] = standing.waiting  # last: the others count for nothing without it

    def clear(self, row: int) -> None:
        """Nobody is there."""
        for column in ("waiting", "running", "client"):
            self._by_cell[column][row] = 0
        self.write_row(row, used=0, running=0, waiting=0, beat=0, process=0)

    def turns(self) -> list[Turn]:
        """Of those that wait and may have one more, in their order."""
        if not self.total("waiting"):  # as most often; it costs little
            return []
        used = self._used()
        # Before what runs, and once: whoever takes a slot meanwhile is seen in line, or running.
        in_line = used["waiting"].copy()
        at = np.nonzero(in_line + used["running"])
        # Few are active as a rule, and then numbers of Python's cost less than arrays.
        cells = dict(zip(CELL_COLUMNS, self._cells[:, at[0], at[1]].tolist(), strict=True))
        clients, weights, most, first = (cells[column] for column in ("client", "weight", "most", "first"))
        rows, entries, waiting = (column.tolist() for column in (*at, in_line[at]))
        total = _sum_by_client(clients, cells["running"])
        eager = [i for i, client in enumerate(clients) if waiting[i] > 0 and total[client] < most[i]]
        eager.sort(key=lambda i: (turn(total[clients[i]], weights[i]), first[i]))
        return [Turn(rows[i], entries[i], clients[i], waiting[i], most[i] - total[clients[i]]) for i in eager]

    def crowd(self, client: Client) -> tuple[int, float]:
        """How many requests of a client wait, and its part of the weights of all that do."""
        cells = self._used()
        at = np.nonzero(cells["waiting"])
        clients, weights, waiting = (cells[column][at].tolist() for column in ("client", "weight", "waiting"))
        others = dict(zip(clients, weights, strict=True))
        others.pop(key := _hash(client.name), None)
        its_own = sum(each for name, each in zip(clients, waiting, strict=True) if name == key)
        return int(its_own), client.weight / (client.weight + sum(others.values()))

    def standings(self) -> list[tuple[int, Standing]]:
        """All of them, with their rows."""
        cells = self._used()
        rows, entries = np.nonzero((cells["waiting"] > 0) | (cells["running"] > 0))
        found = []
        for row, entry in zip(rows.tolist(), entries.tolist(), strict=True):
            one = {column: float(values[row, entry]) for column, values in cells.items()}
            name = bytes(self._names[row, entry]).decode("utf-8", "replace")
            client = Client(name, one["weight"], one["most"])
            found.append((row, Standing(client, int(one["running"]), int(one["waiting"]), one["first"])))
        return found

    def _used(self) -> dict[str, NDArray[Any]]:
        used = int(max(self._by_row["used"].tolist()))
        return dict(zip(CELL_COLUMNS, self._cells[:, :, :used], strict=True))


def _sum_by_client(clients: list[float], running: list[float]) -> dict[float, float]:
    """How many requests of each client run in all workers."""
    total = dict.fromkeys(clients, 0.0)
    for client, runs in zip(clients, running, strict=True):
        total[client] += runs
    return total


def _hash(name: str) -> float:
    """A whole number that a float holds exactly. Never 0, which is nobody."""
    return float(int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "little") or 1)
