"""Integers between two bounds, as expressions over their digits."""

from bento_trtllm.grammar.expressions import Expression, characters, choice, sequence
from bento_trtllm.grammar.json import DIGITS

LIMIT = 10**DIGITS - 1


def between(low: int | None, high: int | None) -> list[Expression]:
    """Every integer from low to high, both included; none if there is none. Open ends stop at DIGITS digits."""
    low = -LIMIT if low is None else max(low, -LIMIT)
    high = LIMIT if high is None else min(high, LIMIT)
    options: list[Expression] = []
    if low < 0 <= high or low <= high < 0:
        options += [sequence("-", option) for option in _naturals(max(-high, 1), -low)]
    if high >= 0 and low <= high:
        options += _naturals(max(low, 0), high)
    return options


def _naturals(low: int, high: int) -> list[Expression]:
    options: list[Expression] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (length - 1) if length > 1 else 0)
        last = min(high, 10**length - 1)
        options.append(_same_length(str(first), str(last)))
    return options


def _same_length(low: str, high: str) -> Expression:
    """The numbers from low to high, which have as many digits, leading zeros included."""
    if not low:
        return sequence()
    if low[0] == high[0]:
        return sequence(low[0], _same_length(low[1:], high[1:]))
    rest = len(low) - 1
    options: list[Expression] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        options.append(sequence(low[0], _same_length(low[1:], "9" * rest)))
        first += 1
    upper: Expression | None = None
    if high[1:] != "9" * rest:
        upper = sequence(high[0], _same_length("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        options.append(sequence(characters(f"{first}{last}"), *[characters("09")] * rest))
    if upper:
        options.append(upper)
    return options[0] if len(options) == 1 else choice(*options)
