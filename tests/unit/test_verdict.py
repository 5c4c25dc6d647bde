"""A verdict on measurements comes from as few of them as settle it."""

import statistics
from itertools import product

import pytest

from tests.support.verdict import best_within, mostly_within


@pytest.mark.parametrize("times", list(product((1.0, 3.0), repeat=5)))
def test_it_is_the_median_that_counts(times: tuple[float, ...]) -> None:
    left = list(times)
    within, measured = mostly_within(2, lambda: left.pop(0), len(times))
    assert within is (statistics.median(times) <= 2)
    assert measured == list(times[: len(measured)])
    assert 3 <= len(measured) <= 5


@pytest.mark.parametrize("times", list(product((1.0, 3.0), repeat=3)))
def test_it_is_the_least_that_counts(times: tuple[float, ...]) -> None:
    left = list(times)
    within, measured = best_within(2, lambda: left.pop(0), len(times))
    assert within is (min(times) <= 2)
    assert measured == list(times[: times.index(1.0) + 1 if within else None])
