"""Grammars as both engines take them: xgrammar's EBNF, written from rules.

Repetition is a rule that names itself at its end, never `*` or `{m,n}`: measured with OpenVINO GenAI 2026.4.1,
a string of `char{0,1024}` takes 100 ms a token, and as a chain of rules the time of a plain token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from bento_trtllm.errors import BentoTRTLLMError

ROOT = "root"


class GrammarError(BentoTRTLLMError):
    """What was asked for cannot be put into a grammar."""


@dataclass(frozen=True, slots=True)
class Literal:
    """This text, not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Characters:
    """One character out of ranges, or one out of all others."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def has(self, character: str) -> bool:
        """Whether the character is one of these."""
        return any(low <= character <= high for low, high in self.ranges) != self.negated

    @property
    def example(self) -> str:
        """One of them."""
        if not self.negated:
            return self.ranges[0][0]
        return next(chr(code) for code in chain(range(0x61, 0x7B), range(0x20, 0x110000)) if self.has(chr(code)))


@dataclass(frozen=True, slots=True)
class Rule:
    """Whatever the rule of this name says."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One after the other; none at all is the empty text."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of these."""

    options: tuple["Expression", ...]


Expression: TypeAlias = Literal | Characters | Rule | Sequence | Choice
EMPTY = Sequence(())


def sequence(*parts: Expression | str) -> Sequence:
    """One after the other; strings stand for themselves."""
    return Sequence(tuple(Literal(part) if isinstance(part, str) else part for part in parts if part != ""))


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


class Grammar:
    """Rules by name, the text of the first of which, ROOT, is what may be written.

    `guide` are the rules that the engine follows, if they are not the same: they may allow more. Raises
    GrammarError if there is no finite text of that kind.
    """

    def __init__(self, rules: Mapping[str, Expression], guide: Mapping[str, Expression] | None = None) -> None:
        self.rules = dict(rules)
        self.guide = dict(guide or rules)
        self._shortest = _shortest(self.rules)
        self._examples: dict[Expression, str] = {}
        if ROOT not in self._shortest:
            raise GrammarError("nothing finite satisfies it")

    def ebnf(self) -> str:
        """The rules for the engine, as xgrammar reads them."""
        return "".join(f"{name} ::= {_ebnf(rule)}\n" for name, rule in self.guide.items())

    def shortest(self, expression: Expression) -> str:
        """The shortest text of an expression of this grammar."""
        text = self._examples.get(expression)
        if text is None:
            text = _example(expression, self._shortest)
            assert text is not None, "a rule without a finite text stands in no finite text"
            self._examples[expression] = text
        return text


def _example(expression: Expression, known: Mapping[str, str]) -> str | None:
    """The shortest text of an expression, as far as the rules it names are known."""
    if isinstance(expression, Literal):
        return expression.text
    if isinstance(expression, Characters):
        return expression.example
    if isinstance(expression, Rule):
        return known.get(expression.name)
    if isinstance(expression, Sequence):
        parts = [_example(part, known) for part in expression.parts]
        return None if None in parts else "".join(part for part in parts if part is not None)
    found = [text for option in expression.options if (text := _example(option, known)) is not None]
    return min(found, key=len, default=None)


def _shortest(rules: dict[str, Expression]) -> dict[str, str]:
    """The shortest text of each rule that has a finite one."""
    known: dict[str, str] = {}
    changed = True
    while changed:
        changed = False
        # Chains are written from their start to their end, and known from their end to their start.
        for name in reversed(rules):
            text = _example(rules[name], known)
            if text is not None and (name not in known or len(text) < len(known[name])):
                known[name] = text
                changed = True
    return known


_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_CLASS_ESCAPES = {**_ESCAPES, '"': '"', "]": "\\]", "[": "\\[", "-": "\\-", "^": "\\^"}


def _escape(text: str, escapes: Mapping[str, str]) -> str:
    def one(character: str) -> str:
        if character in escapes:
            return escapes[character]
        code = ord(character)
        if 0x20 <= code < 0x7F:
            return character
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return "".join(map(one, text))


def _ebnf(expression: Expression) -> str:
    if isinstance(expression, Literal):
        return f'"{_escape(expression.text, _ESCAPES)}"'
    if isinstance(expression, Characters):
        ranges = (
            _escape(low, _CLASS_ESCAPES) + (f"-{_escape(high, _CLASS_ESCAPES)}" if high != low else "")
            for low, high in expression.ranges
        )
        return f"[{'^' if expression.negated else ''}{''.join(ranges)}]"
    if isinstance(expression, Rule):
        return expression.name
    if isinstance(expression, Sequence):
        return (
            " ".join(
                f"({_ebnf(part)})" if isinstance(part, Choice | Sequence) and part != EMPTY else _ebnf(part)
                for part in expression.parts
            )
            or '""'
        )
    return " | ".join(
        _ebnf(option) if not isinstance(option, Choice) else f"({_ebnf(option)})" for option in expression.options
    )
