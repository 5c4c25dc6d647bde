"""The expressions that a grammar's rules are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

FEW = 24
"""At most so many characters, such as all hexadecimal digits, cost an engine little: it has to check few tokens."""


@dataclass(frozen=True, slots=True)
class Literal:
    """This text, not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Characters:
    """One character in these ranges, or one outside them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def has(self, character: str) -> bool:
        """Whether the character is one of these."""
        return any(low <= character <= high for low, high in self.ranges) != self.negated

    @property
    def wide(self) -> bool:
        """Whether there are so many that an engine has to check many tokens."""
        return self.negated or sum(ord(high) - ord(low) + 1 for low, high in self.ranges) > FEW

    @property
    def example(self) -> str:
        """One of them."""
        if not self.negated:
            return self.ranges[0][0]
        return next(chr(code) for code in chain(range(0x61, 0x7B), range(0x20, 0x110000)) if self.has(chr(code)))


@dataclass(frozen=True, slots=True)
class Rule:
    """The expression of the rule with this name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Concatenation:
    """One after the other; without items, the empty text."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of these."""

    options: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """An item, not empty, repeated from `least` to `most` times; None means any number."""

    item: "Expression"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """An item whose text has at most this many characters; it has such a text. Engines do not enforce this."""

    item: "Expression"
    most: int


Expression: TypeAlias = Literal | Characters | Rule | Concatenation | Choice | Repeat | Within
EMPTY = Concatenation(())


def sequence(*parts: Expression | str) -> Concatenation:
    """One after the other; strings stand for themselves."""
    return Concatenation(tuple(Literal(part) if isinstance(part, str) else part for part in parts if part != ""))


def choice(*options: Expression | str) -> Choice:
    """One of these; strings stand for themselves."""
    return Choice(tuple(_expression(option) for option in options))


def characters(*ranges: str, negated: bool = False) -> Characters:
    """Characters and ranges: characters("_", "az", "09")."""
    return Characters(tuple((item[0], item[-1]) for item in ranges), negated)


def _expression(value: Expression | str) -> Expression:
    if isinstance(value, str):
        return Literal(value) if value else EMPTY
    return value


def parts(expression: Expression) -> "tuple[Expression, ...]":
    """The expressions that one is made of."""
    if isinstance(expression, Concatenation):
        return expression.parts
    if isinstance(expression, Choice):
        return expression.options
    return (expression.item,) if isinstance(expression, Repeat | Within) else ()


def rules_in(expression: "Expression") -> Iterator[str]:
    """The names of the rules that it refers to, as often as it does."""
    if isinstance(expression, Rule):
        yield expression.name
    for part in parts(expression):
        yield from rules_in(part)
