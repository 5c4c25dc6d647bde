"""What the workers of a service tell each other in their folder, also where its disk is full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bento_trtllm.triton.process.run_folder import RunFolder, Status
from tests.support.disk import full, mounted

READY = Status("ready", generation=1, address="127.0.0.1:1", metrics="127.0.0.1:2", owner=7)
ENDED = Status("restarting", "It ended.", generation=1, owner=7)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[RunFolder, RunFolder]]:
    """Of two workers, the first of which owns Triton."""
    owner, other = RunFolder(tmp_path / "run/service"), RunFolder(tmp_path / "run/service")
    owner.join()
    assert owner.take()
    other.join()
    yield owner, other
    owner.leave()
    other.leave()
    assert list((tmp_path / "run").iterdir()) == []


def test_who_comes_first_is_told_nothing(folders: tuple[RunFolder, RunFolder]) -> None:
    owner, other = folders
    assert owner.read() is other.read() is None
    owner.write(READY)
    assert owner.read() == other.read() == READY
    owner.write(ENDED)
    assert other.read() == ENDED


def test_who_cannot_read_keeps_what_it_knew(folders: tuple[RunFolder, RunFolder]) -> None:
    """An owner that dies as it writes leaves half a record, and the next one counts its Tritons from what it read."""
    owner, other = folders
    owner.write(READY)
    assert other.read() == READY
    path = owner.path / "status"
    whole = path.read_bytes()
    owner.write(ENDED)
    path.write_bytes(path.read_bytes()[:20] + whole[20:])
    owner.release()
    assert other.take()
    assert other.read() == READY
    assert RunFolder(owner.path).read() is None
    other.write(ENDED)
    assert RunFolder(owner.path).read() == ENDED


def test_an_engine_is_condemned_by_its_number(folders: tuple[RunFolder, RunFolder]) -> None:
    owner, other = folders
    assert owner.condemned(0) is None
    other.condemn(1, "It fails.")
    assert (owner.condemned(0), owner.condemned(1), owner.condemned(2)) == (None, "It fails.", None)


def test_a_full_disk(tmp_path: Path) -> None:
    """It keeps nobody from being told: who believes in a Triton that has ended says that it is ready."""
    with mounted(tmp_path / "disk") as disk:
        owner, other, third = (RunFolder(disk / "run/service") for _ in range(3))
        owner.join()
        assert owner.take()
        other.join()
        owner.write(READY)
        with full(disk):
            assert other.read() == READY
            owner.write(ENDED)
            assert other.read() == ENDED
            other.condemn(1, "It fails.")
            assert owner.condemned(1) == "It fails."
            owner.leave()
            third.join()
            assert third.take()
            assert third.read() == ENDED
        for folder in (other, third):
            folder.leave()
        assert list((disk / "run").iterdir()) == []


def test_a_service_that_is_gone(folders: tuple[RunFolder, RunFolder]) -> None:
    """Who looks, or tells, late is not in the way of its end."""
    late = RunFolder(folders[0].path.parent / "gone")
    assert late.read() is None
    assert late.condemned(1) is None
    late.condemn(1, "It fails.")
    with pytest.raises(FileNotFoundError):
        late.write(READY)
    assert not late.path.exists()
