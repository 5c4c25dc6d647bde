"""What a service's processes keep for those that come later: who has it, and what becomes of a writing that fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest

from bento_trtllm.bento.pinned import KEYS, kept_keys
from bento_trtllm.keys.kept import Kept

INHERIT = "import sys; from bento_trtllm.keys.kept import Kept; kept = Kept.inherited(sys.argv[1]);"


@pytest.fixture(params=["in memory", "on a disk"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    if request.param == "on a disk":
        monkeypatch.delattr(os, "memfd_create")
    kept = Kept.make()
    yield kept
    for place in places(kept):
        os.close(place)


def places(kept: Kept) -> list[int]:
    return [int(place) for place in kept.name.split(",")]


def test_the_latest_is_kept(kept: Kept) -> None:
    assert kept.read() is None
    for content in (b"one", b"", b"a longer one", b"short", b"x" * 1_000_000, b"last"):
        kept.write(content)
        assert kept.read() == content


def test_a_process_that_inherits_it_reads_and_writes_it(kept: Kept) -> None:
    kept.write(b"one")
    read = [sys.executable, "-c", f"{INHERIT} print(kept and kept.read())", kept.name]
    assert subprocess.run(read, capture_output=True, close_fds=False, check=True).stdout == b"b'one'\n"
    assert subprocess.run(read, capture_output=True, check=True).stdout == b"None\n"
    write = [sys.executable, "-c", f"{INHERIT} kept.write(b'two')", kept.name]
    subprocess.run(write, close_fds=False, check=True)
    assert kept.read() == b"two"


def test_who_inherits_it_does_not_pass_it_on(kept: Kept) -> None:
    kept.write(b"one")
    assert [os.get_inheritable(place) for place in places(kept)] == [True, True]
    assert Kept.inherited(kept.name)
    assert [os.get_inheritable(place) for place in places(kept)] == [False, False]


def test_it_has_no_name_and_is_closed_to_others(kept: Kept) -> None:
    for place in places(kept):
        link = str(Path(f"/proc/self/fd/{place}").readlink())
        assert link.endswith(" (deleted)")
        assert link.startswith("/memfd:") or os.fstat(place).st_mode & 0o077 == 0


def test_a_writing_that_is_cut_off_leaves_what_was_kept(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kill, or a disk that is full."""
    kept.write(b"zero")
    kept.write(b"one")
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, offset: write(file, content[:-1], offset))
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            kept.write(b"two")
        assert kept.read() == b"one"
    monkeypatch.undo()
    kept.write(b"three")
    assert kept.read() == b"three"


def test_files_of_others_are_neither_read_nor_written(tmp_path: Path) -> None:
    """A worker that is started in another way has the variable, and not the files."""
    assert Kept.inherited("") is None
    assert Kept.inherited("-1,-1") is None
    reading, writing = os.pipe()
    with (tmp_path / "other").open("w+b") as other:
        other.write(b"theirs" * 10)
        other.flush()
        assert Kept.inherited(f"{other.fileno()},{reading}") is None
    os.close(reading)
    os.close(writing)


def test_workers_inherit_it_and_a_service_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS, "-1,-1")
    monkeypatch.setattr(bentoml.server_context, "worker_index", None)
    first = kept_keys()
    assert first and os.environ[KEYS] == first.name
    first.write(b"keys")
    monkeypatch.setattr(bentoml.server_context, "worker_index", 1)
    later = kept_keys()
    assert later and later.read() == b"keys"
    monkeypatch.setattr(bentoml.server_context, "worker_index", None)
    another = kept_keys()
    assert another and another.read() is None
    monkeypatch.setattr(Kept, "make", lambda: os.close(-1))
    assert kept_keys() is None
    assert KEYS not in os.environ
