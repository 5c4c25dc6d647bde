"""Dates, times and durations of RFC 3339, as texts that every validator accepts.

All dates from year 1 on, with correct leap years. Where there are two ways to write something, one is used: T and Z in
capitals. No leap seconds, which Python and JavaScript do not have.
"""

from bento_trtllm.grammar.expressions import Expression, Repeat, characters, choice, sequence
from bento_trtllm.grammar.json import DIGIT, Rules

POSITIVE = characters("19")
YEAR = choice(
    sequence(POSITIVE, DIGIT, DIGIT, DIGIT),
    sequence("0", POSITIVE, DIGIT, DIGIT),
    sequence("00", POSITIVE, DIGIT),
    sequence("000", POSITIVE),
)
# Two-digit multiples of four, except 00.
FOURS = choice(
    sequence("0", characters("4", "8")),
    sequence(characters("2", "4", "6", "8"), characters("0", "4", "8")),
    sequence(characters("1", "3", "5", "7", "9"), characters("2", "6")),
)
LEAP_YEAR = choice(sequence(DIGIT, DIGIT, FOURS), sequence(FOURS, "00"))
TO_28 = choice(sequence("0", POSITIVE), sequence("1", DIGIT), sequence("2", characters("08")))
# Except February 29.
MONTH_AND_DAY = choice(
    sequence(choice(sequence("0", POSITIVE), sequence("1", characters("02"))), "-", TO_28),
    sequence(choice(sequence("0", characters("1", "39")), sequence("1", characters("02"))), "-", choice("29", "30")),
    sequence(choice(sequence("0", characters("1", "3", "5", "7", "8")), sequence("1", characters("0", "2"))), "-31"),
)
HOUR = choice(sequence(characters("01"), DIGIT), sequence("2", characters("03")))
SIXTY = sequence(characters("05"), DIGIT)
# Digits of a second's fraction, and of a duration's larger and smaller units: what programming languages support.
NANO, DAYS, SECONDS = 9, 6, 9


def date(rules: Rules) -> Expression:
    """2024-02-29."""
    return rules.rule("date", choice(sequence(YEAR, "-", MONTH_AND_DAY), sequence(LEAP_YEAR, "-02-29")))


def time(rules: Rules) -> Expression:
    """23:59:59.5+01:00."""
    part = choice("", sequence(".", Repeat(DIGIT, 1, NANO)))
    zone = choice("Z", sequence(choice("+", "-"), HOUR, ":", SIXTY))
    return rules.rule("time", sequence(HOUR, ":", SIXTY, ":", SIXTY, part, zone))


def date_time(rules: Rules) -> Expression:
    """2024-02-29T23:59:59Z."""
    return sequence(date(rules), "T", time(rules))


def duration(rules: Rules) -> Expression:
    """P1Y2M3DT4H5M6S, or P7W, as in RFC 3339's appendix A: no unit is left out in between, none has a fraction."""
    more = choice("", sequence("T", rules.rule("hours", _units("HMS", SECONDS))))
    return rules.rule(
        "duration",
        sequence(
            "P",
            choice(
                sequence(_count(DAYS), "W"),
                sequence(rules.rule("days", _units("YMD", DAYS)), more),
                sequence("T", rules.rule("hours", _units("HMS", SECONDS))),
            ),
        ),
    )


def _units(units: str, digits: int) -> Expression:
    """Counts of consecutive units, from any unit to any later one."""
    runs: list[Expression] = []
    after: Expression = sequence()
    for unit in reversed(units):
        run = sequence(_count(digits), unit, after)
        runs.append(run)
        after = choice("", run)
    return choice(*runs)


def _count(digits: int) -> Expression:
    return Repeat(DIGIT, 1, digits)
