"""JSON values as rules: written on one line, without room for endless whitespace or digits."""

import json
from collections.abc import Callable, Hashable

from bento_trtllm.grammar.expressions import Expression, Repeat, Rule, characters, choice, sequence

# All integers that a double holds have at most so many digits.
DIGITS = 15
# Nobody means a deeper one, and a small model would go on opening brackets.
DEPTH = 8


def dumps(value: object) -> str:
    """A value as JSON. Raises ValueError for what JSON has no form for.

    `<` is an escape: an engine would take the text of a control token, as `<|eot_id|>`, for the token, and end there.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


PLAIN = characters("\x00\x1f", '"', "\\", negated=True)
DIGIT = characters("09")
HEX = characters("09", "af", "AF")
# One character within a string. Of the escapes by number only those of control characters, which have no other form:
# anything else can be written as it is, and half a surrogate pair would be no text.
ESCAPE = sequence(
    "\\", choice(characters('"', "\\", "/", "b", "f", "n", "r", "t"), sequence("u00", characters("01"), HEX))
)
CHARACTER = choice(PLAIN, Rule("escape"))


class Rules:
    """Rules in the making. Each method writes what it needs, once, and returns an expression for it."""

    def __init__(self) -> None:
        self.rules: dict[str, Expression] = {}
        self.places: dict[str, str] = {}
        """Where in a schema a rule comes from, as far as it comes from one place."""
        self.multiples = 0
        """How many numbers were written out, since there is no other way to write them."""
        self._made: dict[Hashable, Expression] = {}

    def rule(self, name: str, expression: Expression, place: str | None = None) -> Rule:
        """Write a rule."""
        self.rules[name] = expression
        if place is not None:
            self.places[name] = place
        return Rule(name)

    def once(self, key: Hashable, make: Callable[[], Expression]) -> Expression:
        """What was made for a key, or is made now: the same object, so that its repetitions share one chain."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def escape(self) -> None:
        """Write what CHARACTER refers to."""
        self.rules["escape"] = ESCAPE

    def string(self, shortest: int = 0, longest: int | None = None) -> Expression:
        """A string of so many characters."""
        self.escape()
        return sequence('"', Repeat(CHARACTER, shortest, longest), '"')

    def natural(self) -> Rule:
        """0 and up, without leading zeros."""
        return self.rule("natural", choice("0", sequence(characters("19"), Repeat(DIGIT, 0, DIGITS - 1))))

    def integer(self) -> Rule:
        """Any integer."""
        return self.rule("integer", sequence(choice("", "-"), self.natural()))

    def fraction(self) -> Rule:
        """Nothing, or a point and digits."""
        return self.rule("fraction", choice("", sequence(".", DIGIT, Repeat(DIGIT, 0, DIGITS - 1))))

    def number(self) -> Rule:
        """Any number; the exponent is small enough for a double."""
        exponent = choice("", sequence(characters("e", "E"), choice("", "+", "-"), DIGIT, Repeat(DIGIT, 0, 1)))
        return self.rule("number", sequence(self.integer(), self.fraction(), exponent))

    def array(self, item: Expression, shortest: int = 0, longest: int | None = None) -> Expression:
        """An array of such items."""
        if longest == 0:
            return sequence("[]")
        more = Repeat(sequence(", ", item), max(shortest - 1, 0), None if longest is None else longest - 1)
        filled = sequence("[", item, more, "]")
        return filled if shortest else choice("[]", filled)

    def map(
        self, value: Expression, key: Expression | None = None, shortest: int = 0, longest: int | None = None
    ) -> Expression:
        """An object of so many pairs, with any keys or such ones and such values."""
        pair = sequence(self.string() if key is None else key, ": ", value)
        more = Repeat(sequence(", ", pair), max(shortest - 1, 0), None if longest is None else longest - 1)
        filled = sequence("{", pair, more, "}")
        return filled if shortest else choice("{}", filled)

    def value(self, depth: int = DEPTH) -> Rule:
        """Any JSON value, nested so deep."""
        name = f"value{depth}"
        if name not in self.rules:
            simple = [self.string(), self.number(), "true", "false", "null"]
            nested = [self.array(self.value(depth - 1)), self.object(depth)] if depth else []
            self.rule(name, choice(*simple, *nested))
        return Rule(name)

    def object(self, depth: int = DEPTH) -> Rule:
        """Any JSON object, nested so deep."""
        return self.rule(f"object{depth}", self.map(self.value(depth - 1)))
