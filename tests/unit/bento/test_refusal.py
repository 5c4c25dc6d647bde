"""A worker that cannot start ends with one sentence and a code of its own, whatever the reason."""

import os
from typing import NoReturn

import bentoml
import pytest

from bento_trtllm.bento.refusal import REFUSED, Refused, refusing, starting_worker
from bento_trtllm.errors import SettingsError


class EndedError(BaseException):
    """In place of the end of this process."""


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> NoReturn:
        assert code == REFUSED
        raise EndedError

    monkeypatch.setattr(os, "_exit", end)


def test_what_nobody_foresaw_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EndedError), starting_worker():
        raise ValueError("no\nway")
    assert capsys.readouterr().err.startswith("error: the service cannot start: ValueError: no way (test_refusal.py:")


@pytest.mark.parametrize("error", [SettingsError("No such setting."), Refused("No such setting.")])
def test_what_is_meant_for_people_is_said_as_it_is(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EndedError), starting_worker():
        raise error
    assert capsys.readouterr().err == "error: No such setting.\n"


def test_while_the_service_is_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused), refusing():
        raise SettingsError("No such setting.")
    monkeypatch.setattr(bentoml.server_context, "worker_index", 1)
    with pytest.raises(EndedError), refusing():
        raise SettingsError("No such setting.")
    assert capsys.readouterr().err == "error: No such setting.\n"
