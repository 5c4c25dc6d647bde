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
    client: int
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
        self._by_cell: dict[str, NDArray[Any]] = {}
        for column in CELL_COLUMNS:
            kind = np.int64 if column == "client" else np.float64
            self._by_cell[column] = np.frombuffer(self._memory, kind, cells, at).reshape(rows, entries)
            at += 8 * cells
        self._names = np.frombuffer(self._memory, f"S{NAME_BYTES}", cells, at).reshape(rows, entries)

    def row(self, column: str, row: int) -> float:
        """A number of a worker."""
        return float(self._by_row[column][row])

    def total(self, column: str) -> float:
        """The sum of all workers'."""
        return float(self._by_row[column].sum())

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
        if not self._by_row["waiting"].any():  # as most often; it costs little
            return []
        cells = self._used()
        # Before what runs, and once: whoever takes a slot meanwhile is seen in line, or running.
        in_line = cells["waiting"].copy()
        total = _sum_by_client(cells)
        at = np.nonzero((in_line > 0) & (total < cells["most"]))
        client, weight, most, first = (cells[column][at] for column in ("client", "weight", "most", "first"))
        order = np.lexsort((first, turn(total[at], weight)))
        columns = (*at, client, in_line[at], most - total[at])
        return [Turn(*each) for each in zip(*(column[order].tolist() for column in columns), strict=True)]

    def crowd(self, client: Client) -> tuple[int, float]:
        """How many requests of a client wait, and its part of the weights of all that do."""
        cells = self._used()
        waiting = cells["waiting"] > 0
        clients, at = np.unique(cells["client"][waiting], return_index=True)
        weights = cells["weight"][waiting][at]
        key = _hash(client.name)
        others = float(weights[clients != key].sum())
        its_own = cells["waiting"][cells["client"] == key].sum()
        return int(its_own), client.weight / (client.weight + others)

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
        used = int(self._by_row["used"].max())
        return {column: values[:, :used] for column, values in self._by_cell.items()}


def _sum_by_client(cells: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """How many requests of its client run in all workers, for each cell."""
    clients = cells["client"]
    _, group = np.unique(clients, return_inverse=True)
    running = np.bincount(group.ravel(), cells["running"].ravel())
    return running[group].reshape(clients.shape)


def _hash(name: str) -> int:
    """Never 0, which is nobody."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
