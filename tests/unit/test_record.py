"""What is told in a record is read whole or not at all, and telling it needs no room."""

import errno
import threading
from pathlib import Path

import pytest

from bento_trtllm.triton.process.record import SIZE, Record
from tests.support.disk import full, mounted

LONG = "It ended. " * 1000


@pytest.fixture
def record(tmp_path: Path) -> Record:
    record = Record(tmp_path / "record")
    record.make()
    return record


def test_there_is_none_until_it_is_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    assert record.read() is None
    record.make()
    assert record.read() is None
    record.write({"state": "ready", "generation": 1}, "")
    assert Record(tmp_path / "record").read() == ({"state": "ready", "generation": 1}, "")


def test_making_it_again_keeps_it(record: Record, tmp_path: Path) -> None:
    record.write([1], "First.")
    Record(tmp_path / "record").make()
    assert record.read() == ([1], "First.")


@pytest.mark.parametrize("reason", ["a\nb", '"quoted" \\ \t', "süß 🦙", "\udcff", "x" * (SIZE - 7)])
def test_any_reason(record: Record, reason: str) -> None:
    record.write(5, LONG)
    record.write(5, reason)
    assert record.read() == (5, reason.replace("\udcff", "?"))


@pytest.mark.parametrize("pad", range(5))
@pytest.mark.parametrize("letter", ["x", "ß", "€", "🦙", '"'])
def test_a_long_reason_is_shortened(record: Record, tmp_path: Path, letter: str, pad: int) -> None:
    record.write(5, "x" * pad + letter * SIZE)
    assert (tmp_path / "record").stat().st_size == SIZE
    read = record.read()
    assert read is not None
    data, reason = read
    assert data == 5 and reason.endswith("…")
    assert reason[:-1] == "x" * pad + letter * (len(reason) - 1 - pad)
    assert SIZE - 16 < len(reason.encode()) < SIZE


def test_half_a_record_is_none(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "record"
    record.write([1], "The first.")
    first = path.read_bytes()
    record.write([2], "Another, and a longer one.")
    second = path.read_bytes()
    last = max(at for at in range(SIZE) if first[at] != second[at]) + 1
    mixed = [second[:at] + first[at:] for at in range(1, last) if second[:at] != first[:at]]
    mixed += [first[:at] + second[at:] for at in range(1, last) if second[at:] != first[at:]]
    for content in (*mixed, b"", bytes(SIZE), second[:-1], second[: SIZE // 2]):
        if content not in (first, second):
            path.write_bytes(content)
            assert record.read() is None
    path.write_bytes(first)
    assert record.read() == ([1], "The first.")


def test_readers_beside_a_writer(record: Record) -> None:
    reasons = ["", "A short one.", LONG]
    shown = []
    for reason in reasons:
        record.write(5, reason)
        shown.append(record.read())
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for reason in reasons:
                record.write(5, reason)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {record.read() for _ in range(5000)} - {None} <= set(shown)
    finally:
        over.set()
        writer.join()


def test_writing_where_it_was_removed(record: Record, tmp_path: Path) -> None:
    (tmp_path / "record").unlink()
    with pytest.raises(FileNotFoundError):
        record.write(5, "")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        record, late = Record(disk / "record"), Record(disk / "late")
        record.make()
        with full(disk):
            with pytest.raises(OSError, match="No space left") as raised:
                late.make()
            assert raised.value.errno == errno.ENOSPC
            assert late.read() is None
            record.write([1], "The first.")
            record.make()
            assert record.read() == ([1], "The first.")
            record.write([2], LONG)
            told = record.read()
            assert told is not None and told[0] == [2]
        late.make()
        late.write([1], "")
        assert late.read() == ([1], "")
