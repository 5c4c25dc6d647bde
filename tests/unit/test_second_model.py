"""The model that scores is made where there is memory for it; else its requests are refused, and nothing is broken."""

import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.support.limits import LIMIT_S

MODELS = Path(__file__).parents[2] / "bento_trtllm/triton_models"
sys.path += [str(MODELS / "shared"), str(MODELS / "openvino")]

import scoring  # noqa: E402  as Triton finds it

WEIGHTS = 3_000_000_000
NEEDED = WEIGHTS + 2**28


class Reply:
    """Of a request that wants scores and no answer: how it ended."""

    name, prompt, input_tokens, left = "", None, 3, False

    def __init__(self) -> None:
        self.over = threading.Event()
        self.fault: Any = None

    def is_cancelled(self) -> bool:
        return False

    def send(self, piece: Any, final: bool) -> None:
        if final:
            self.over.set()

    def end(self, fault: Any = None) -> None:
        self.fault = fault
        self.over.set()


class Second:
    """In the compiled model's place."""

    made = 0

    def __init__(self, engine: Path, properties: object) -> None:
        Second.made += 1

    def text(self) -> Any:
        return SimpleNamespace(feed=lambda *_, **__: scoring.Scores(), forget=lambda: None)


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with (tmp_path / "openvino_model.bin").open("wb") as file:
        file.truncate(WEIGHTS)
    # Its modules are for here alone: what they have of Triton is none.
    backend = SimpleNamespace(TRITONSERVER_RESPONSE_COMPLETE_FINAL=1)
    with patch.dict(sys.modules, {"triton_python_backend_utils": backend}):
        module = import_module("scorer")
    monkeypatch.setattr(module, "ScoringModel", Second)
    Second.made = 0
    errors: list[str] = []
    scorer = module.Scorer(tmp_path, {}, errors.append)
    yield scorer
    scorer.close()
    assert errors == []


def ask(scorer: Any, top: int = 0) -> Any:
    """The fault that a request ends with, if it does."""
    reply = Reply()
    request = SimpleNamespace(
        prompt=np.array([5, 6, 7]), max_tokens=0, top_log_probs=top, prompt_log_probs=None if top else 1,
        streaming=False,
    )  # fmt: skip
    scorer.take(request, reply)
    assert reply.over.wait(LIMIT_S)
    return reply.fault


def test_scores_are_refused_where_there_is_no_memory_for_them(scorer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [NEEDED - 1]
    monkeypatch.setattr(scoring, "free_memory", lambda groups: free[0])
    for top, tensor in ((0, "num_prompt_log_probs"), (3, "num_top_log_probs")):
        fault = ask(scorer, top)
        assert (fault.code, fault.tensor) == ("invalid_request", tensor)
        assert fault.message == (
            "These scores need the model a second time, 3.3 GB of memory, and this machine has 3.3 GB free: ask for "
            "scores of the answer's own tokens alone, or take a larger machine."
        )
    assert Second.made == 0
    free[0] = NEEDED
    assert ask(scorer) is None and Second.made == 1
    # From now on it is there.
    free[0] = 0
    assert ask(scorer) is None and Second.made == 1
