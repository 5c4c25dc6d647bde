"""Folders that Triton's Python backend makes in /tmp: of several Tritons that start at a time, none loses its own."""

import tempfile
import time
from pathlib import Path

import pytest

from bento_trtllm.triton.process import reaper


def test_a_folder_is_left_to_a_reaper_that_has_not_noted_it_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "TMP", str(tmp_path))  # other tests' reapers look at /tmp
    for run in ("ending", "starting"):
        (tmp_path / run).mkdir()
    ending, starting = (reaper.Environments(str(tmp_path / run)) for run in ("ending", "starting"))
    environment = Path(tempfile.mkdtemp(prefix=reaper.ENVIRONMENT, dir=tmp_path))
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        starting.note()

    monkeypatch.setattr(time, "sleep", wait)
    ending.note()
    assert (tmp_path / "ending" / environment.name).readlink() == environment
    ending.release()
    reaper.remove_environment(str(environment))
    assert environment.is_dir()
    starting.release()
    reaper.remove_environment(str(environment))
    assert not environment.exists()
    assert all(0 <= seconds <= reaper.NOTED_S for seconds in waited)
