"""What scripts/soak --memory weighs, and when it says that a process grew."""

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from soak.memory import GREW, REPLACED, Sample, TooFew, Weight, read, rows, weigh
from soak.mixture import MAKERS, mixture
from tests.support.schemas import SCHEMAS


def samples(path: Path, *anonymous: float) -> list[Sample]:
    """Of one process that has so much at one time after another; another one ends."""
    for minute, mb in enumerate(anonymous):
        both = [Weight(pid, "worker", 2 * mb, mb + 1, mb, 9, 3) for pid in (7, 8)]
        with path.open("a") as file:
            file.write(Sample(60.0 * minute, 240 * minute, tuple(both[: 1 if minute else 2])).line())
    return read(path)


@pytest.mark.parametrize(
    ("anonymous", "grew"),
    [
        ((50, 90, 100, 100, 100, 101, 102, 103), 0),  # a part of 100, since caches fill in
        ((50, 90, 100, 100, 102, 103, 105, 106), 1),
        ((5, 9, 10, 10, 12, 12, 12, 13), 0),  # less than is worth a word
        ((100, 100, 100, 100, 60, 60, 60, 60), 0),
    ],
)
def test_a_process_grows_that_has_more_in_the_last_quarter(
    tmp_path: Path, anonymous: tuple[float, ...], grew: int
) -> None:
    found = rows(samples(tmp_path / "samples", *anonymous))
    assert found[GREW] == grew
    means = str(found["worker 7, anonymous memory, mean of each quarter, MB"])
    assert means.split(", ", maxsplit=1)[0] == f"{sum(anonymous[:2]) / 2:.0f}"
    assert found["requests"] == "1,680" and not any("worker 8" in name for name in found)
    assert found[REPLACED] == 0  # nobody took the other one's place


def test_an_engine_that_was_restarted_is_told_with_its_longest_life(tmp_path: Path) -> None:
    former = samples(tmp_path / "samples", *range(10, 16))
    later = [Sample(s.seconds, s.requests, tuple(replace(w, pid=9) for w in s.processes)) for s in former[1:5]]
    found = rows([*former, *later])
    assert found["worker 7, samples of its life"] == "6 of 10"
    assert not any("worker 9" in name for name in found)
    assert found[REPLACED] == 1


def test_a_run_that_has_only_begun_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(TooFew, match="there are 3 samples, and a table takes 4"):
        rows(samples(tmp_path / "samples", 1, 2, 3))


def test_a_process_is_weighed() -> None:
    hoard = bytearray(os.urandom(1)) * 50 * 2**20
    (weight,) = weigh([psutil.Process()])
    assert weight.pid == os.getpid()
    assert len(hoard) / 2**20 < weight.anonymous_mb <= weight.rss_mb
    assert weight.files > 2 and weight.threads > 0


def test_the_mixture_repeats_itself_and_asks_nothing_twice() -> None:
    """So that a run can be repeated, and what is kept of each request is seen."""
    one, other = mixture(1), mixture(1)
    asked = [one() for _ in range(600)]
    assert asked == [other() for _ in asked]
    assert len({each.kind for each in asked}) > len(MAKERS) / 2
    guided = [
        json.dumps(json.loads(each.body)["response_format"]) for each in asked if each.kind == "schema" and each.body
    ]
    assert len({*guided}) == len(guided) > 30 > len(SCHEMAS)
