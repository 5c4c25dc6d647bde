"""JSON values as rules: written on one line, without room for endless whitespace or digits."""

import json
from functools import partial

from bento_trtllm.grammar.grammar import EMPTY, Expression, Rule, characters, choice, sequence

# All integers that a double holds have at most so many digits.
DIGITS = 15
# Nobody means a deeper one, and a small model would go on opening brackets.
DEPTH = 8

dumps = partial(json.dumps, ensure_ascii=False, allow_nan=False)

PLAIN = characters("\x00\x1f", '"', "\\", negated=True)
DIGIT = characters("09")
HEX = characters("09", "af", "AF")


class Rules:
    """Rules in the making. Each method writes what it needs, once, and returns an expression for it.

    A count over `most` is written as no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self.rules: dict[str, Expression] = {}
        self._most = most

    def _limit(self, longest: int | None) -> int | None:
        return None if longest is None or (self._most is not None and longest > self._most) else longest

    def rule(self, name: str, expression: Expression) -> Rule:
        """Write a rule."""
        self.rules[name] = expression
        return Rule(name)

    def character(self) -> Rule:
        """One character within a string. Of the escapes by number only those of control characters, which have no
        other form: anything else can be written as it is, and half a surrogate pair would be no text."""
        if "char" in self.rules:
            return Rule("char")
        by_number = sequence("u00", characters("01"), HEX)
        escaped = choice(characters('"', "\\", "/", "b", "f", "n", "r", "t"), by_number)
        self.rule("escape", sequence("\\", escaped))
        return self.rule("char", choice(PLAIN, Rule("escape")))

    def string(self, shortest: int = 0, longest: int | None = None) -> Expression:
        """A string of so many characters."""
        self.character()
        longest = self._limit(longest)
        if longest is None:
            again = Rule("string")
            rest: Expression = self.rule("string", choice('"', sequence(PLAIN, again), sequence(Rule("escape"), again)))
        else:
            # The characters that must come stand before those that may.
            rest = Rule(f"to{longest}_{shortest}")
            for i in range(shortest, longest + 1):
                name, after = f"to{longest}_{i}", Rule(f"to{longest}_{i + 1}")
                more = () if i == longest else (sequence(PLAIN, after), sequence(Rule("escape"), after))
                self.rules.setdefault(name, choice('"', *more))
        return sequence('"', *[Rule("char")] * shortest, rest)

    def digits(self, most: int) -> Rule:
        """No digit, or up to so many."""
        for i in range(most + 1):
            self.rules.setdefault(f"digits{i}", choice("", sequence(DIGIT, Rule(f"digits{i - 1}"))) if i else EMPTY)
        return Rule(f"digits{most}")

    def natural(self) -> Rule:
        """0 and up, without leading zeros."""
        return self.rule("natural", choice("0", sequence(characters("19"), self.digits(DIGITS - 1))))

    def integer(self) -> Rule:
        """Any integer."""
        return self.rule("integer", sequence(choice("", "-"), self.natural()))

    def fraction(self) -> Rule:
        """Nothing, or a point and digits."""
        return self.rule("fraction", choice("", sequence(".", DIGIT, self.digits(DIGITS - 1))))

    def number(self) -> Rule:
        """Any number; the exponent is small enough for a double."""
        exponent = choice("", sequence(characters("e", "E"), choice("", "+", "-"), DIGIT, self.digits(1)))
        return self.rule("number", sequence(self.integer(), self.fraction(), exponent))

    def array(self, name: str, item: Expression, shortest: int = 0, longest: int | None = None) -> Expression:
        """An array of such items."""
        if longest == 0:
            return sequence("[]")
        longest = self._limit(longest)
        if longest is None:
            more: Expression = self.rule(f"{name}_more", choice("]", sequence(", ", item, Rule(f"{name}_more"))))
        else:
            for i in range(max(shortest, 1), longest + 1):
                further = () if i == longest else (sequence(", ", item, Rule(f"{name}_{i + 1}")),)
                self.rule(f"{name}_{i}", choice("]", *further))
            more = Rule(f"{name}_{max(shortest, 1)}")
        required = [sequence(", ", item)] * (shortest - 1)
        filled = sequence("[", item, *required, more)
        return filled if shortest else choice("[]", filled)

    def map(self, name: str, value: Expression) -> Expression:
        """An object with any keys and such values."""
        pair = sequence(self.string(), ": ", value)
        more = self.rule(f"{name}_more", choice("}", sequence(", ", pair, Rule(f"{name}_more"))))
        return choice("{}", sequence("{", pair, more))

    def value(self, depth: int = DEPTH) -> Rule:
        """Any JSON value, nested so deep."""
        name = f"value{depth}"
        if name not in self.rules:
            simple = [self.string(), self.number(), "true", "false", "null"]
            nested = [self.array(f"{name}_array", self.value(depth - 1)), self.object(depth)] if depth else []
            self.rule(name, choice(*simple, *nested))
        return Rule(name)

    def object(self, depth: int = DEPTH) -> Rule:
        """Any JSON object, nested so deep."""
        name = f"object{depth}"
        return self.rule(name, self.map(name, self.value(depth - 1)))
