"""What scripts/test would run. Nothing is checked here."""

import subprocess
from pathlib import Path

import pytest

from tests.support import checks
from tests.support.launcher import ROOT


def test_options_go_to_pytest() -> None:
    assert checks.pytest_runs(["tests/unit", "-k", "a or b"]) == [["tests/unit", "-k", "a or b"]]
    ((*fast, last),) = checks.pytest_runs(["--fast", "-x"])
    assert fast[:4] == ["tests/unit", "tests/contract", "-m", "not slow"] and last == "-x"


def test_every_test_is_in_one_of_two_runs() -> None:
    together, alone = checks.pytest_runs([])
    assert together[:2] == ["-m", "not measured"] and alone[:2] == ["-m", "measured"]
    assert "--numprocesses" in together and "--numprocesses" not in alone


def test_every_folder_that_triton_loads_is_checked() -> None:
    """All that pyproject.toml takes from mypy's own run, with what lies beside each."""
    folders = dict(checks.loaded())
    assert {folder.parent for folder in folders} >= {Path("bento_trtllm/triton_models"), Path("benchmark/models")}
    found = {
        model.parent.relative_to(ROOT) for model in ROOT.glob("b*/**/model.py") if "TritonPython" in model.read_text()
    }
    assert len(found) >= 4 and found <= folders.keys()
    assert all((ROOT / beside).is_dir() for others in folders.values() for beside in others)


def test_the_first_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def fails(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(" ".join(command))
        return subprocess.CompletedProcess(command, -9 if "check" in command else 0)

    monkeypatch.setattr(subprocess, "run", fails)
    assert checks.style() == 137 and ran == ["ruff format --check .", "ruff check ."]
