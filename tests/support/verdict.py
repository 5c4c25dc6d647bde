"""Measuring no longer than a verdict needs."""

from collections.abc import Callable


def mostly_within(limit: float, measure: Callable[[], float], count: int) -> tuple[bool, list[float]]:
    """Whether the median of an odd `count` of measurements is within a limit, and those that were made.

    It is settled as soon as most of them are on one side, so the rest is not measured.
    """
    measured: list[float] = []
    while True:
        within = sum(each <= limit for each in measured)
        if max(within, len(measured) - within) > count // 2:
            return within > count // 2, measured
        measured.append(measure())


def best_within(limit: float, measure: Callable[[], float], count: int) -> tuple[bool, list[float]]:
    """Whether the least of `count` measurements is within a limit, and those that were made, up to the first that is.

    For what would be the same every time but for the machine, which only adds to it.
    """
    measured: list[float] = []
    while len(measured) < count:
        measured.append(measure())
        if measured[-1] <= limit:
            return True, measured
    return False, measured
