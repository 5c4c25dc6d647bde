"""String formats of JSON Schema, each as texts that every checker accepts; not all that one may accept."""

from bento_trtllm.grammar.expressions import Expression, Repeat, characters, choice, sequence
from bento_trtllm.grammar.json import DIGIT

LOWER_HEX = characters("09", "af")
# Every month has 28 days.
DAY = choice(sequence("0", characters("19")), sequence("1", DIGIT), sequence("2", characters("08")))
MONTH = choice(sequence("0", characters("19")), sequence("1", characters("02")))
DATE = sequence(choice("19", "20"), DIGIT, DIGIT, "-", MONTH, "-", DAY)
HOUR = choice(sequence(characters("01"), DIGIT), sequence("2", characters("03")))
SIXTY = sequence(characters("05"), DIGIT)
TIME = sequence(HOUR, ":", SIXTY, ":", SIXTY, choice("Z", sequence(choice("+", "-"), HOUR, ":", SIXTY)))
OCTET = choice(
    sequence("25", characters("05")),
    sequence("2", characters("04"), DIGIT),
    sequence("1", DIGIT, DIGIT),
    sequence(characters("19"), DIGIT),
    DIGIT,
)


def _hex(count: int) -> Expression:
    return sequence(*[LOWER_HEX] * count)


def _word(most: int) -> Expression:
    """Up to so many letters, the first always."""
    return Repeat(characters("az"), 1, most)


FORMATS: dict[str, Expression] = {
    "date": DATE,
    "time": TIME,
    "date-time": sequence(DATE, "T", TIME),
    "uuid": sequence(_hex(8), "-", _hex(4), "-4", _hex(3), "-", characters("89", "ab"), _hex(3), "-", _hex(12)),
    "ipv4": sequence(OCTET, ".", OCTET, ".", OCTET, ".", OCTET),
    "email": sequence(_word(16), "@", _word(16), ".", choice("com", "org", "net", "io", "dev", "eu")),
}
