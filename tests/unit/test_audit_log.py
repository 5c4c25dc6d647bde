"""The audit log: whole lines from several processes, files of bounded size, and nothing for other users."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bento_trtllm.errors import SettingsError
from bento_trtllm.keys.audit import AuditLog, check
from tests.support.forked import Forked


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_processes_write_whole_lines_through_rotations(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"

    def work(worker: int) -> None:
        log = AuditLog(path, 4000, 100)
        for number in range(200):
            log.write({"worker": worker, "number": number, "key": "ü"})
        assert log.lost == 0

    with Forked(lambda: work(0)), Forked(lambda: work(1)), Forked(lambda: work(2)):
        pass
    files = [each for each in tmp_path.iterdir() if each.suffix != ".lock"]
    assert len(files) > 1
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
    written = [(line["worker"], line["number"]) for each in files for line in lines(each)]
    assert sorted(written) == [(worker, number) for worker in range(3) for number in range(200)]


def test_a_file_that_cannot_be_written_is_told_before_anybody_is_served(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    check(path)
    AuditLog(path, 4000, 1).write({"number": 1})
    check(path)
    assert len(lines(path)) == 1 and path.stat().st_mode & 0o777 == 0o600
    for wrong, why in ((tmp_path / "none/audit.log", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=f"the audit log, {wrong}, cannot be written: {why}"):
            check(wrong)


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_files_than_are_wanted(tmp_path: Path, most: int) -> None:
    log = AuditLog(tmp_path / "audit.log", 1024, most)
    for number in range(100):
        log.write({"number": number})
    files = sorted(each.name for each in tmp_path.iterdir() if each.suffix != ".lock")
    assert max((tmp_path / name).stat().st_size for name in files) < 1024 + 100
    assert files == ["audit.log", "audit.log.1", "audit.log.2"][:most]
    assert lines(tmp_path / "audit.log")[-1]["number"] == 99


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path, 10_000, 2)
    log.write({"number": 1})
    path.rename(tmp_path / "taken")
    log.write({"number": 2})
    log.close()
    assert [line["number"] for line in lines(path)] == [2]


def test_a_log_that_cannot_be_written_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path / "nowhere" / "audit.log", 10_000, 2)
    for _ in range(3):
        log.write({"number": 1})
    assert log.lost == 3
    assert len(caplog.records) == 1
    (tmp_path / "nowhere").mkdir()
    log.write({"number": 2})
    assert [line["number"] for line in lines(tmp_path / "nowhere" / "audit.log")] == [2]


def test_a_link_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (link := tmp_path / "audit.log").symlink_to("disk/audit.log")
    log = AuditLog(link, 1024, 2)
    for number in range(30):
        log.write({"number": number})
    assert link.is_symlink() and [each.name for each in tmp_path.iterdir() if each != link] == ["disk"]
    assert {each.name for each in (tmp_path / "disk").iterdir()} == {"audit.log", "audit.log.1", "audit.log.lock"}
    assert lines(link)[-1]["number"] == 29


@pytest.mark.parametrize("links", [0, 1, 2])
def test_stdout_is_written_to_and_left_as_it_is(tmp_path: Path, links: int) -> None:
    """It may be a file, and that of somebody else; a link to it is no less."""
    (tmp_path / "log").mkdir()
    path = tmp_path / "log" / "service.log"
    with path.open("wb") as file:
        path.chmod(0o644)
        stdout = Path(f"/dev/fd/{file.fileno()}")
        for number in range(links):
            (link := tmp_path / f"audit{number}.log").symlink_to(stdout)
            stdout = link
        check(stdout)
        log = AuditLog(stdout, 1024, 2)
        for number in range(30):
            log.write({"number": number})
        log.close()
    assert list(path.parent.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o644
    assert [line["number"] for line in lines(path)] == list(range(30))


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_that_is_not_read_holds_up_nobody(tmp_path: Path, linked: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"):
        path = Path(f"/dev/fd/{writing}")
        if linked:
            (link := tmp_path / "audit.log").symlink_to(path)
            path = link
        log = AuditLog(path, 1024, 2)
        for number in range(2000):
            log.write({"number": number, "padding": "x" * 100})
        assert log.lost
        assert json.loads(pipe.readline())["number"] == 0


def test_a_file_in_memory_is_like_others() -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        log = AuditLog(Path(folder) / "audit.log", 1024, 2)
        for number in range(30):
            log.write({"number": number})
        log.close()
        assert len(list(Path(folder).glob("audit.log.1"))) == 1
