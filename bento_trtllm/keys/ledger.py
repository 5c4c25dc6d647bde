"""What each key has used, in all workers: counts that a worker's death does not undo, and limits that hold for all.

    <run folder>/ledger/members     the bytes that workers lock, one each for its row
    <run folder>/ledger/<key>       counts, a row a worker
    <run folder>/ledger/<key>-<limits>  since when the key owes nothing

All workers have these files mapped. A worker alone writes its row, so no count is lost between two of them; whoever
comes after one that died counts on in its row. Of the rest one number is enough: a key pays for what it uses at the
speed of its limit, so it owes nothing from `base + used / speed` on, which is in the future for one that does. When it
is not, the next request moves the base. A key may owe a minute, which is to say that it can have the use of a minute at
once; tokens are paid for when they are there, so an answer may take it beyond, and the next one waits for that long.
"""

import logging
import math
import mmap
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bento_trtllm.keys.key import Key
from bento_trtllm.triton.process.byte_locks import lock

LOGGER = logging.getLogger("bento_trtllm.keys")
MINUTE_S = 60.0
REQUESTS, REFUSED, PROMPT, GENERATED = range(4)
"""Columns of the counts."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Allowance:
    """What is left of one limit."""

    kind: str
    """requests, or tokens."""
    limit: int
    """A minute."""
    remaining: int
    reset_s: float
    """When all of it will be there again."""
    wait_s: float
    """When the next request may come; 0 for now."""


@dataclass(frozen=True)
class Counts:
    """What a key has used since the service began."""

    requests: int
    refused: int
    prompt_tokens: int
    generated_tokens: int


class Account:
    """One key's. `clock` is the same for all workers."""

    def __init__(self, key: Key, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        """In memory, until it is `open`."""
        self.key = key
        self._rows = rows
        self._row = 0
        self._clock = clock
        self._counts = memoryview(bytearray(8 * 4 * rows)).cast("d")
        self._bases = memoryview(bytearray(8 * 2)).cast("d")
        self._is_open = False

    def open(self, folder: Path, row: int) -> None:
        """Count in files, with what was counted before. Raises OSError."""
        if self._is_open:
            return
        name, key = sha256(self.key.name.encode()).hexdigest()[:32], self.key
        counts = _map(folder / name, 4 * self._rows)
        bases = _map(folder / f"{name}-{key.requests_per_minute}-{key.tokens_per_minute}", 2)
        for column in range(4):
            counts[column * self._rows + row] += self._counts[column * self._rows + self._row]
        self._counts, self._bases, self._row, self._is_open = counts, bases, row, True

    def renewed(self, key: Key) -> "Account":
        """The account under other terms; with other limits, nothing is owed."""
        if (key.requests_per_minute, key.tokens_per_minute) == (
            self.key.requests_per_minute,
            self.key.tokens_per_minute,
        ):
            self.key = key
            return self
        account = Account(key, self._rows, self._clock)
        if not self._is_open:
            account._counts = self._counts
        return account

    def enter(self) -> Allowance | None:
        """Count a request, unless a limit is reached: that one, which has to be waited for."""
        tokens = self._tokens()
        if tokens and tokens.wait_s:
            self.add(REFUSED)
            return tokens
        limit = self.key.requests_per_minute
        if limit:
            self._rebase(0, self._used(REQUESTS), limit)
        # Counted first and looked at then: of two that come at once, here and elsewhere, both see both.
        self.add(REQUESTS)
        if limit and self._owed_s(0, self._used(REQUESTS), limit) > MINUTE_S + ROUNDING:
            self.add(REQUESTS, -1)
            self.add(REFUSED)
            return self._requests()
        return None

    def add(self, column: int, count: int = 1) -> None:
        """Count."""
        self._counts[column * self._rows + self._row] += count

    def use(self, prompt: int, generated: int) -> None:
        """Count tokens."""
        if self.key.tokens_per_minute:
            self._rebase(1, self._used(PROMPT, GENERATED), self.key.tokens_per_minute)
        self.add(PROMPT, prompt)
        self.add(GENERATED, generated)

    def allowances(self) -> list[Allowance]:
        """What is left of its limits."""
        return [each for each in (self._requests(), self._tokens()) if each]

    def counts(self) -> Counts:
        """What it has used, in all workers."""
        return Counts(*(self._used(column) for column in (REQUESTS, REFUSED, PROMPT, GENERATED)))

    def _requests(self) -> Allowance | None:
        if limit := self.key.requests_per_minute:
            return self._allowance("requests", limit, self._owed_s(0, self._used(REQUESTS), limit))
        return None

    def _tokens(self) -> Allowance | None:
        if limit := self.key.tokens_per_minute:
            return self._allowance("tokens", limit, self._owed_s(1, self._used(PROMPT, GENERATED), limit))
        return None

    def _allowance(self, kind: str, limit: int, owed_s: float) -> Allowance:
        remaining = max(0, math.floor((MINUTE_S - owed_s) * limit / MINUTE_S + ROUNDING))
        wait_s = 0.0 if remaining else owed_s - MINUTE_S + MINUTE_S / limit
        return Allowance(kind, limit, remaining, owed_s, wait_s)

    def _owed_s(self, base: int, used: int, limit: int) -> float:
        """How long it takes until all that was used is paid for."""
        if not self._bases[base]:
            return 0.0
        return max(0.0, self._bases[base] + used * MINUTE_S / limit - self._clock())

    def _rebase(self, base: int, used: int, limit: int) -> None:
        if not self._owed_s(base, used, limit):
            self._bases[base] = self._clock() - used * MINUTE_S / limit

    def _used(self, *columns: int) -> int:
        return int(sum(sum(self._counts[c * self._rows : (c + 1) * self._rows].tolist()) for c in columns))


ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)
"""That of the request being served, if its key has one."""


class Ledger:
    """The accounts of all keys, as one worker has them."""

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        # As the slots have: those that end and those that begin overlap.
        self._rows = 2 * workers + 2
        self._clock = clock
        self._folder: Path | None = None
        self._members = -1
        self._row = 0
        self._accounts: dict[str, Account] = {}

    def open(self, folder: Path) -> None:
        """Share the accounts of this run folder; again is as good as once. Raises OSError."""
        if self._folder is not None:
            return
        ledger = folder / "ledger"
        ledger.mkdir(mode=0o700, exist_ok=True)
        members = os.open(ledger / "members", os.O_RDWR | os.O_CREAT, 0o600)
        row = next((row for row in range(self._rows) if lock(members, row)), None)
        if row is None:
            os.close(members)
            raise OSError(f"{ledger} has as many workers as it may")
        self._folder, self._members, self._row = ledger, members, row
        self._open_all()

    def close(self) -> None:
        """Leave the row to others; counting goes on."""
        if self._folder is not None:
            os.close(self._members)
            self._folder = None

    def keep(self, keys: Iterable[Key]) -> None:
        """These are the keys now. What was counted for others stays, and is theirs again when they come back."""
        for key in keys:
            known = self._accounts.get(key.name)
            self._accounts[key.name] = known.renewed(key) if known else Account(key, self._rows, self._clock)
        self._open_all()

    def account(self, name: str) -> Account | None:
        """That of a key; None for a client that has none."""
        return self._accounts.get(name)

    def accounts(self) -> list[Account]:
        """All of them, by name."""
        return [self._accounts[name] for name in sorted(self._accounts)]

    def _open_all(self) -> None:
        if self._folder is None:
            return
        try:
            for account in self._accounts.values():
                account.open(self._folder, self._row)
        except OSError as error:
            LOGGER.error("limits of keys hold for each worker alone, since %s cannot be used: %s", self._folder, error)


def _map(path: Path, numbers: int) -> "memoryview[float]":
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 8 * numbers)
        return memoryview(mmap.mmap(file.fileno(), 8 * numbers)).cast("d")
