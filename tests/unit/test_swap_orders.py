"""What workers and the command say to each other about swaps."""

import os
from pathlib import Path

import pytest

from bento_trtllm.errors import TritonError
from bento_trtllm.swap import command_line
from bento_trtllm.swap.command_line import main
from bento_trtllm.swap.orders import MARK, Orders, Pack, Progress, Wanted
from bento_trtllm.triton.process.run_folder import Mark, RunFolder

WANTED = Wanted("/models/llama/two", "seal", 7)


def make_service(folder: Path, pid: int) -> Path:
    run = folder / f"bento-trtllm-{os.getuid()}/run/{pid}-1-abcdef01"
    run.mkdir(parents=True)
    (run / MARK).touch()
    return run


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_orders_are_read_as_they_were_written(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    assert [orders.read(Wanted), orders.read(Progress), orders.read(Pack)] == [None, None, None]
    for each in (WANTED, Progress(7, "loading"), Pack("/models/llama/one", "seal")):
        orders.write(each)
    assert (orders.read(Wanted), orders.read(Progress)) == (WANTED, Progress(7, "loading"))
    assert orders.read(Pack) == Pack("/models/llama/one", "seal")
    assert WANTED.tag == "llama:two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.json", "serving.json", "wanted.json"]


def test_a_mark_is_set_as_long_as_anybody_sets_it(tmp_path: Path) -> None:
    one, other, looking = (Mark(tmp_path / "mark") for _ in range(3))
    seen = [looking.is_set()]
    for change in (one.set, other.set, one.clear, other.clear):
        change()
        seen.append(looking.is_set())
    assert seen == [False, True, True, True, False]


def test_use_that_is_said_first_is_shown_from_the_beginning(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    folder.use(True)
    folder.join()
    other.join()
    assert other.is_used()
    folder.use(False)
    assert not other.is_used()
    for each in (folder, other):
        each.leave()


def test_the_command_finds_the_service(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["swap", "llama:two"]) == 2
    assert "no service of yours runs on this machine" in capsys.readouterr().err
    one = make_service(temporary, os.getpid())
    make_service(temporary, 2**22 + 1)  # no process has this id: it was a service
    monkeypatch.setattr(command_line, "order", lambda tag, pid: print(command_line._folder(pid)))
    assert main(["swap", "llama:two"]) == 0
    assert capsys.readouterr().out.strip() == str(one)
    make_service(temporary, os.getppid())
    assert main(["swap", "llama:two"]) == 2
    assert "say which service, with --pid" in capsys.readouterr().err
    assert main(["swap", "llama:two", "--pid", str(os.getpid())]) == 0
    assert main(["swap", "llama:two", "--pid", "1"]) == 2
    assert "process 1 is no service of yours" in capsys.readouterr().err


def test_the_command_says_how_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = Orders(tmp_path)
    stages = iter([Progress(6, "failed", "of another swap"), Progress(7, "pausing", "no room"), Progress(7, "done")])
    monkeypatch.setattr("time.sleep", lambda _: orders.write(next(stages)))
    command_line._watch(orders, WANTED)
    assert capsys.readouterr().out.splitlines() == [
        "llama:two: " + command_line.SAID["pausing"].format(reason="no room"),
        "llama:two: done: the old engine has ended",
    ]
    monkeypatch.setattr(command_line, "BEGIN_S", 0)
    with pytest.raises(TritonError, match="look at its log"):
        command_line._watch(orders, Wanted("/models/llama/two", "seal", 8))
