"""JSON values as rules: on one line, with no room for endless whitespace or digits."""

import json
from collections.abc import Callable, Hashable

from bento_trtllm.grammar import lengths
from bento_trtllm.grammar.expressions import Expression, Repeat, Rule, characters, choice, sequence

# A double represents all integers of up to this many digits.
DIGITS = 15
# Nobody needs deeper nesting, and a small model would keep opening brackets.
DEPTH = 8


def dumps(value: object) -> str:
    """A value as JSON. Raises ValueError for what JSON cannot represent.

    `<` is escaped: an engine would take the text of a control token, such as `<|eot_id|>`, for the token, and end
    there.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


PLAIN = characters("\x00\x1f", '"', "\\", negated=True)
DIGIT = characters("09")
HEX = characters("09", "af", "AF")
# One character within a string. Of the numeric escapes only those of control characters, which have no other form:
# anything else can be written unescaped, and a lone surrogate would not be valid text.
ESCAPE = sequence(
    "\\", choice(characters('"', "\\", "/", "b", "f", "n", "r", "t"), sequence("u00", characters("01"), HEX))
)
CHARACTER = choice(PLAIN, Rule("escape"))


class Rules:
    """Rules being written. Each method writes the rules that it needs, once, and returns an expression."""

    def __init__(self) -> None:
        self.rules: dict[str, Expression] = {}
        self.places: dict[str, str] = {}
        """Where in a schema a rule comes from, if it comes from a single place."""
        self.multiples = 0
        """How many numbers were listed one by one, since there is no other way to write them."""
        self.states = self.wide_states = 0
        """How many states the automata of its patterns have, and those in which many characters may come."""
        self.automata: set[str] = set()
        """The rules with which those begin."""
        self._made: dict[Hashable, Expression] = {}

    def begin_states(self, other: "Rules") -> None:
        """Count on from the automata of others, whose limits and names they share."""
        self.states, self.wide_states = other.states, other.wide_states
        self.automata |= other.automata

    def rule(self, name: str, expression: Expression, place: str | None = None) -> Rule:
        """Write a rule."""
        self.rules[name] = expression
        if place is not None:
            self.places[name] = place
        return Rule(name)

    def once(self, key: Hashable, make: Callable[[], Expression]) -> Expression:
        """The object for a key, made on first use: always the same object, so that its repetitions share one chain."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def can_be_empty(self, expression: Expression) -> bool:
        """Whether the empty text is one of its texts. The rules that it refers to are written, and not recursive."""
        return lengths.can_be_empty(expression, lambda name: self.can_be_empty(self.rules[name]))

    def escape(self) -> None:
        """Write the rules that CHARACTER refers to."""
        self.rules["escape"] = ESCAPE

    def string(self, shortest: int = 0, longest: int | None = None) -> Expression:
        """A string with that many characters."""
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
        """An object with that many pairs, with any keys, or with these keys and values."""
        pair = sequence(self.string() if key is None else key, ": ", value)
        more = Repeat(sequence(", ", pair), max(shortest - 1, 0), None if longest is None else longest - 1)
        filled = sequence("{", pair, more, "}")
        return filled if shortest else choice("{}", filled)

    def value(self, depth: int = DEPTH) -> Rule:
        """Any JSON value, nested up to this depth."""
        name = f"value{depth}"
        if name not in self.rules:
            simple = [self.string(), self.number(), "true", "false", "null"]
            nested = [self.array(self.value(depth - 1)), self.object(depth)] if depth else []
            self.rule(name, choice(*simple, *nested))
        return Rule(name)

    def object(self, depth: int = DEPTH) -> Rule:
        """Any JSON object, nested up to this depth."""
        return self.rule(f"object{depth}", self.map(self.value(depth - 1)))
