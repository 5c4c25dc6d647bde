"""What keys have used: exact over several processes and their deaths, and limits that hold for all of them."""

import os
import signal
from pathlib import Path

import pytest

from bento_trtllm.keys.key import Key
from bento_trtllm.keys.ledger import Account, Counts, Ledger
from bento_trtllm.triton.process.run_folder import RunFolder
from tests.support.forked import Forked

KEY = Key("team", b"", requests_per_minute=6, tokens_per_minute=600)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def opened(folder: Path, key: Key, clock: Clock | None = None, workers: int = 4) -> tuple[Ledger, Account]:
    ledger = Ledger(workers, clock or Clock())
    ledger.keep([key])
    ledger.open(folder)
    account = ledger.account(key.name)
    assert account
    return ledger, account


def test_requests_come_back_at_the_speed_of_the_limit(tmp_path: Path) -> None:
    clock = Clock()
    _, account = opened(tmp_path, KEY, clock)
    assert [account.enter() for _ in range(6)] == [None] * 6
    reached = account.enter()
    assert reached
    assert (reached.kind, reached.remaining, reached.wait_s, reached.reset_s) == ("requests", 0, 10.0, 60.0)
    clock.now_s += 9.9
    assert account.enter()
    clock.now_s += 0.2
    assert account.enter() is None
    assert account.enter()
    clock.now_s += 1000  # what was not used is not saved up
    assert [bool(account.enter()) for _ in range(7)] == [False] * 6 + [True]
    assert account.counts() == Counts(requests=13, refused=4, prompt_tokens=0, generated_tokens=0)


def test_an_answer_may_cost_more_than_there_is_and_the_next_waits_until_it_is_paid(tmp_path: Path) -> None:
    clock = Clock()
    _, account = opened(tmp_path, Key("team", b"", tokens_per_minute=600), clock)
    assert account.enter() is None
    account.use(prompt=100, generated=1)
    for _ in range(99):
        account.use(prompt=0, generated=10)
    (tokens,) = account.allowances()
    assert tokens.remaining == 0
    assert tokens.reset_s == pytest.approx(109.1)
    reached = account.enter()
    assert reached
    assert reached.wait_s == pytest.approx(49.2)
    clock.now_s += 49.3
    assert account.enter() is None
    assert account.counts() == Counts(requests=2, refused=1, prompt_tokens=100, generated_tokens=991)


def test_other_limits_begin_anew_and_counts_go_on(tmp_path: Path) -> None:
    ledger, account = opened(tmp_path, KEY)
    for _ in range(7):
        account.enter()
    ledger.keep([Key("team", b"other", requests_per_minute=12)])
    renewed = ledger.account("team")
    assert renewed
    assert [bool(renewed.enter()) for _ in range(13)] == [False] * 12 + [True]
    account.use(1, 2)  # of a stream that began before
    assert renewed.counts() == Counts(18, 2, 1, 2)
    ledger.keep([Key("team", b"other", requests_per_minute=12, weight=3)])
    assert ledger.account("team") is renewed


def test_what_was_counted_before_there_was_a_folder_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(1, Clock())
    ledger.keep([KEY])
    account = ledger.account("team")
    assert account
    account.enter()
    account.use(3, 4)
    ledger.open(tmp_path)
    ledger.open(tmp_path)
    assert account.counts() == Counts(1, 0, 3, 4)


def test_processes_count_together_and_the_killed_are_not_forgotten(tmp_path: Path) -> None:
    key = Key("team", b"", requests_per_minute=1000, tokens_per_minute=10**9)

    def work() -> None:
        _, account = opened(tmp_path, key, workers=2)
        for _ in range(400):
            account.enter()
            account.use(2, 3)

    def work_and_die() -> None:
        work()
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):  # one after another in the rows of those that died
        with Forked(work_and_die), Forked(work), Forked(work):
            pass
    ledger, account = opened(tmp_path, key, workers=2)
    counts = account.counts()
    # At the same moment, so that nothing came back meanwhile: not one too many, of whichever worker.
    assert counts == Counts(requests=1000, refused=1400, prompt_tokens=4800, generated_tokens=7200)
    ledger.close()


def test_a_folder_that_cannot_be_used_leaves_the_limits_to_each_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, _ = opened(tmp_path, KEY)
    (tmp_path / "ledger" / "members").unlink()
    (tmp_path / "ledger").rename(tmp_path / "gone")
    ledger.keep([KEY, Key("second", b"", requests_per_minute=1)])
    second = ledger.account("second")
    assert second
    assert [bool(second.enter()) for _ in range(2)] == [False, True]
    assert "limits of keys hold for each worker alone" in caplog.text


def test_a_worker_that_comes_after_the_only_one_finds_its_folder(tmp_path: Path) -> None:
    only = RunFolder(tmp_path / "run" / "this")
    only.join()
    _, account = opened(only.path, KEY, workers=1)
    account.enter()
    assert only._members is not None
    os.close(only._members)  # as the kernel does of one that was killed
    after = RunFolder(only.path)
    after.join()
    _, account = opened(after.path, KEY, workers=1)
    assert account.counts().requests == 1
    after.leave()
    assert not only.path.exists()
