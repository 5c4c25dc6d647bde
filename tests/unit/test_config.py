"""Settings that depend on the machine."""

import os

import pytest

from bento_trtllm.config import Settings, cores, default_workers


@pytest.mark.parametrize(
    ("count", "workers"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (16, 4), (32, 8), (64, 8), (192, 8)]
)
def test_default_workers(count: int, workers: int) -> None:
    assert default_workers(count) == workers


def test_workers_are_the_machines_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTLLM_WORKERS", raising=False)
    assert Settings().workers == default_workers(cores())
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("TRTLLM_WORKERS", "3")
    assert Settings().workers == 3
