"""Numbers between two bounds, as expressions over their digits.

A number has at most DIGITS digits, before and after the point together: as many as a double can distinguish, so that a
number that is below a bound as text is also below it as a double. Numbers with bounds are written without an exponent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bento_trtllm.grammar.expressions import EMPTY, Expression, Literal, Repeat, characters, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import DIGIT, DIGITS, Rules
from bento_trtllm.grammar.texts import one_of

ZERO = Literal("0")
LIMIT = 10**DIGITS
# Multiples of a step that is not a power of ten are listed, if a whole grammar has at most this many.
MAX_MULTIPLES = 1000


@dataclass(frozen=True)
class Range:
    """A range between two numbers; None is open. `over` and `under` say that the bound itself is excluded."""

    low: Fraction | None = None
    high: Fraction | None = None
    over: bool = False
    under: bool = False

    def multiples(self, step: Fraction) -> tuple[int, int]:
        """The first and last multiple of a step in the range, in steps. Open ends stop at LIMIT."""
        p, q = step.numerator, step.denominator
        first, last = -((LIMIT * q - 1) // p), (LIMIT * q - 1) // p
        if self.low is not None:
            whole, rest = divmod(self.low.numerator * q, self.low.denominator * p)
            first = max(first, whole + (self.over or rest > 0))
        if self.high is not None:
            whole, rest = divmod(self.high.numerator * q, self.high.denominator * p)
            last = min(last, whole - (self.under and not rest))
        return first, last

    def has(self, value: Fraction) -> bool:
        """Whether a number is in the range."""
        above = self.low is None or value > self.low or (value == self.low and not self.over)
        return above and (self.high is None or value < self.high or (value == self.high and not self.under))


def exact(number: float) -> Fraction:
    """A JSON number, exactly as it was written."""
    return Fraction(number) if isinstance(number, int) else Fraction(str(number))


def read_range(schema: Mapping[str, Any]) -> Range:
    """Combines minimum, maximum, exclusiveMinimum and exclusiveMaximum."""
    # The greatest bound wins, and of equal ones the exclusive one.
    lows = [(exact(schema[key]), key != "minimum") for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [(exact(schema[key]), key == "maximum") for key in ("maximum", "exclusiveMaximum") if key in schema]
    low, over = max(lows, default=(None, False))
    high, inclusive = min(highs, default=(None, True))
    return Range(low, high, over, not inclusive)


def numeric(rules: Rules, kind: str, schema: Mapping[str, Any], at: str) -> Expression:
    """The numbers, or integers, that a schema's keywords allow. Raises GrammarError."""
    step = exact(schema["multipleOf"]) if "multipleOf" in schema else None
    if kind == "integer":
        step = Fraction(1) if step is None else Fraction(step.numerator)  # the integers among the multiples
    within = read_range(schema)
    if within == Range() and (step is None or (kind == "integer" and step == 1)):
        return rules.integer() if kind == "integer" else rules.number()
    if step is None:
        options = decimals(rules, within, DIGITS)
    elif (power := _power_of_ten(step)) is None:
        options = _few(rules, within, step, at)
    elif power < 0:
        options = decimals(rules, within, -power)
    else:
        options = [
            option if zero else sequence(option, "0" * power)
            for zero, option in _integers(*within.multiples(step), DIGITS - power)
        ]
    if not options:
        raise GrammarError(f"{at or 'the schema'} allows no number of at most {DIGITS} digits")
    return choice(*options)


def integers(low: int, high: int) -> list[Expression]:
    """Every integer from low to high, both included, of at most DIGITS digits; empty if there is none."""
    return [option for _, option in _integers(low, high, DIGITS)]


def _integers(low: int, high: int, digits: int) -> Iterator[tuple[bool, Expression]]:
    """By whether it is zero."""
    if low <= 0 <= high:
        yield True, sequence("0")
    for sign, least, most in (("-", max(-high, 1), -low), ("", max(low, 1), high)):
        for length in range(len(str(least)), digits + 1):
            first, last = max(least, 10 ** (length - 1)), min(most, 10**length - 1)
            if first == 10 ** (length - 1) and most >= 10**digits - 1:
                # All remaining lengths in one expression.
                yield False, sequence(sign, characters("19"), Repeat(DIGIT, length - 1, digits - 1))
                break
            if first <= last:
                yield False, sequence(sign, same_length(str(first), str(last)))


def decimals(rules: Rules, within: Range, places: int) -> list[Expression]:
    """Every decimal in a range, with at most this many decimal places."""
    positive = list(_magnitudes(rules, within, places))
    if within.low is not None and within.low >= 0:
        return positive
    mirrored = Range(
        None if within.high is None else -within.high,
        None if within.low is None else -within.low,
        within.under,
        within.over,
    )
    return [*(sequence("-", option) for option in _magnitudes(rules, mirrored, places)), *positive]


def _magnitudes(rules: Rules, within: Range, places: int) -> Iterator[Expression]:
    """The decimals from 0 up, by the number of digits before the point."""
    for length in range(1, DIGITS + 1):
        behind = min(places, DIGITS - length)
        unit = 10**behind
        first, last = within.multiples(Fraction(1, unit))
        least, most = (10 ** (length - 1) if length > 1 else 0), 10**length - 1
        first, last = max(first, least * unit), min(last, most * unit + unit - 1)
        if first > last:
            continue
        if (first, last) == (least * unit, most * unit + unit - 1):
            whole = same_length(str(least), str(most))
            yield rules.rule(f"decimal{length}_{behind}", sequence(whole, _fraction("", "", behind)))
            continue
        (lowest, begin), (highest, end) = divmod(first, unit), divmod(last, unit)
        if lowest == highest:
            yield sequence(str(lowest), _fraction(_padded(begin, behind), _padded(end, behind), behind))
            continue
        if begin:
            yield sequence(str(lowest), _fraction(_padded(begin, behind), "", behind))
            lowest += 1
        if end != unit - 1:
            yield sequence(str(highest), _fraction("", _padded(end, behind), behind))
            highest -= 1
        if lowest <= highest:
            yield sequence(same_length(str(lowest), str(highest)), _fraction("", "", behind))


def _padded(number: int, places: int) -> str:
    return f"{number:0{places}d}" if places else ""


def _fraction(low: str, high: str, places: int) -> Expression:
    """A point and digits from low to high, which have as many digits as there are places; an empty bound is open.

    Also the empty text, if 0 is in the range.
    """
    if not places:
        return EMPTY
    digits = sequence(".", _digits(low, high, places, begun=False))
    return digits if low.strip("0") else choice("", digits)


def _digits(low: str, high: str, left: int, *, begun: bool = True) -> Expression:
    """Digits of a fraction, which may end as soon as they are not below `low`."""
    low, high = (low if low.strip("0") else ""), (high if high.strip("9") else "")
    if not (low or high):
        return Repeat(DIGIT, 0 if begun else 1, left) if left else EMPTY
    if not (low or high.strip("0")):
        return Repeat(ZERO, 0 if begun else 1, left)
    first, last = int(low[0]) if low else 0, int(high[0]) if high else 9
    options: list[Expression] = [] if low or not begun else [EMPTY]
    if first == last:
        options.append(sequence(str(first), _digits(low[1:], high[1:], left - 1)))
        return choice(*options)
    if low:
        options.append(sequence(str(first), _digits(low[1:], "", left - 1)))
        first += 1
    if high:
        options.append(sequence(str(last), _digits("", high[1:], left - 1)))
        last -= 1
    if first <= last:
        options.append(sequence(characters(f"{first}{last}"), _digits("", "", left - 1)))
    return choice(*options)


def same_length(low: str, high: str) -> Expression:
    """The numbers from low to high, which have the same number of digits, including leading zeros."""
    if not low:
        return sequence()
    if low[0] == high[0]:
        return sequence(low[0], same_length(low[1:], high[1:]))
    rest = len(low) - 1
    options: list[Expression] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        options.append(sequence(low[0], same_length(low[1:], "9" * rest)))
        first += 1
    upper: Expression | None = None
    if high[1:] != "9" * rest:
        upper = sequence(high[0], same_length("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        options.append(sequence(characters(f"{first}{last}"), *[DIGIT] * rest))
    if upper:
        options.append(upper)
    return options[0] if len(options) == 1 else choice(*options)


def _power_of_ten(step: Fraction) -> int | None:
    for number, sign in ((step.numerator, 1), (step.denominator, -1)):
        power = len(str(number)) - 1
        if number == 10**power and 1 in (step.numerator, step.denominator) and (power or step == 1):
            return sign * power
    return None


def _few(rules: Rules, within: Range, step: Fraction, at: str) -> list[Expression]:
    """Multiples, listed."""
    refusal = f"{at}/multipleOf is enforced for powers of ten, and for at most {MAX_MULTIPLES} multiples within bounds"
    if within.low is None or within.high is None:
        raise GrammarError(refusal)
    first, last = within.multiples(step)
    rules.multiples += max(last - first + 1, 0)
    if rules.multiples > MAX_MULTIPLES:
        raise GrammarError(refusal)
    texts = [decimal_text(count * step) for count in range(first, last + 1)]
    if any(len(text.strip("-").replace(".", "")) > DIGITS for text in texts):
        raise GrammarError(f"{at}/multipleOf leads to numbers of over {DIGITS} digits")
    return [one_of(texts)] if texts else []


def decimal_text(value: Fraction) -> str:
    """A finite decimal without an exponent or trailing zeros."""
    places = 0
    while (scaled := abs(value) * 10**places).denominator != 1:
        places += 1
    digits = f"{scaled.numerator:0{places + 1}d}"
    whole, behind = (digits[:-places], digits[-places:]) if places else (digits, "")
    return f"{'-' if value < 0 else ''}{whole}{f'.{behind}' if behind else ''}"
