"""ECMA-262 regular expressions, as used by JSON Schema's `pattern`, as expressions for the content of a JSON string.

The subset: characters and escapes for them, `.`, classes, \\d \\w \\s and their opposites, groups, `|`, `* + ? {m,n}`
(lazy ones too: they mean the same texts), and `^` and `$` at the ends of an alternative. Anything else is refused by
name.
"""

import re
from typing import NamedTuple

from bento_trtllm.grammar.automaton import AMBIGUOUS, automaton, has_repeated_group, unambiguous
from bento_trtllm.grammar.charset import LINE_ENDS, CharacterSet
from bento_trtllm.grammar.ebnf import MAX_GUIDED_COUNT
from bento_trtllm.grammar.expressions import (
    EMPTY,
    Characters,
    Concatenation,
    Expression,
    Literal,
    Repeat,
    Rule,
    choice,
    sequence,
)
from bento_trtllm.grammar.json import CHARACTER, Rules
from bento_trtllm.grammar.limits import MAX_COUNT
from bento_trtllm.grammar.paths import AutomatonTooLarge
from bento_trtllm.grammar.pattern_reader import PatternReader, single

MAX_DEPTH = 32
ANY = Characters((), negated=True)
QUANTIFIER = re.compile(r"\{([0-9]+)(?:(,)([0-9]+)?)?\}")
# Openings of plain groups, and of what is not supported. (?P<name> is Python's form of (?<name>.
PLAIN_GROUP = re.compile(r"\(\?:|\(\?P?<[A-Za-z_$][\w$]*>|\((?!\?)")
REFUSED_GROUPS = {
    "(?=": "lookahead",
    "(?!": "lookahead",
    "(?<=": "lookbehind",
    "(?<!": "lookbehind",
    "(?P=": "a backreference",
    "(?>": "an atomic group",
}


class Pattern(NamedTuple):
    """The matching strings, without quotes; `run` if they are just a Repeat of one set of characters."""

    expression: Expression
    run: bool


class _Branch(NamedTuple):
    begins: bool
    expression: Expression
    ends: bool


def parse(rules: Rules, pattern: str, at: str) -> Pattern:
    """The strings that contain a match. Raises GrammarError, naming what is not supported."""
    if found := _automaton(rules, pattern, at, bare=False):
        return Pattern(found, False)
    parser = _Parser(rules, pattern, at)
    branches = parser.branches()
    if len(branches) == 1 and branches[0].begins and branches[0].ends:
        expression = branches[0].expression
        return Pattern(expression, isinstance(expression, Repeat) and id(expression) in parser.runs)
    rules.escape()
    return Pattern(_around(branches, CHARACTER), False)


def whole(rules: Rules, pattern: str) -> Expression:
    """The texts that a pattern matches as a whole, unescaped. Raises GrammarError like `parse`."""
    if found := _automaton(rules, pattern, "", bare=True):
        return found
    return choice(*(branch.expression for branch in _Parser(rules, pattern, "", bare=True).branches()))


def _around(branches: list[_Branch], character: Expression) -> Expression:
    """What contains one of the branches, beside any of these characters."""
    around = Repeat(character, 0, None)
    return choice(
        *(
            sequence("" if branch.begins else around, branch.expression, "" if branch.ends else around)
            for branch in branches
        )
    )


def _automaton(rules: Rules, pattern: str, at: str, *, bare: bool) -> Expression | None:
    """The texts of a pattern with a group that is repeated, as an automaton; None for others.

    One that is too large is taken as others are if no text can be divided in several ways.
    """
    if "(" not in pattern:
        return None
    logical = Rules()
    parser = _Parser(logical, pattern, at, bare=True)
    branches = parser.branches()
    matching = choice(*(branch.expression for branch in branches))
    if not has_repeated_group(matching, logical.rules):
        return None
    texts = matching if bare else _around(branches, ANY)
    try:
        return rules.once(("automaton", pattern, bare), lambda: automaton(texts, logical.rules).write(rules, bare=bare))
    except AutomatonTooLarge:
        if unambiguous(matching, logical.rules):
            return None
        parser.refuse(AMBIGUOUS)


class _Parser(PatternReader):
    def __init__(self, rules: Rules, pattern: str, at: str, *, bare: bool = False) -> None:
        super().__init__(pattern, at)
        self._rules = rules
        self._bare = bare
        # Repeats of one set of characters, by id.
        self.runs: dict[int, Repeat] = {}

    def branches(self) -> list[_Branch]:
        """The whole pattern."""
        branches = self.alternatives(0)
        if self.rest:
            self.refuse("an unmatched )")
        return branches

    def alternatives(self, depth: int) -> list[_Branch]:
        """Up to a closing parenthesis or the end."""
        if depth > MAX_DEPTH:
            self.refuse(f"groups over {MAX_DEPTH} deep")
        branches = self._branch(depth)
        while self.take("|"):
            branches += self._branch(depth)
        return branches

    def _branch(self, depth: int) -> list[_Branch]:
        begins = self.take("^")
        parts: list[Expression] = []
        while self.rest and not (self.peek("|") or self.peek(")")):
            if self.take("$"):
                if self.rest and not (self.peek("|") or self.peek(")")):
                    self.refuse("$ before the end")
                return [_Branch(begins, _joined(parts), True)]
            if self.peek("^"):
                self.refuse("^ after the beginning")
            if self.peek("("):
                inner = self._group(depth)
                alone = not (parts or begins) and (not self.rest or self.peek("|") or self.peek(")"))
                if any(branch.begins or branch.ends for branch in inner):
                    if not alone:
                        self.refuse("^ or $ within a group")
                    return inner
                item = choice(*(b.expression for b in inner)) if len(inner) > 1 else inner[0].expression
                parts.append(self._quantified(item, None))
            else:
                parts.append(self._quantified(EMPTY, self._atom()))
        return [_Branch(begins, _joined(parts), False)]

    def _group(self, depth: int) -> list[_Branch]:
        opening = PLAIN_GROUP.match(self.pattern, self.next)
        if not opening:
            start = self.pattern[self.next : self.next + 4]
            names = [name for prefix, name in REFUSED_GROUPS.items() if start.startswith(prefix)]
            self.refuse(names[0] if names else f"{start[:3]}, a flag or the like,")
        self.next = opening.end()
        inner = self.alternatives(depth + 1)
        if not self.take(")"):
            self.refuse("no ) for a (")
        return inner

    def _atom(self) -> CharacterSet:
        character = self.one()
        if character == ".":
            return ~LINE_ENDS
        if character == "[":
            return self.char_class()
        if character == "\\":
            return self.escape(within=False)
        if character in "*+?" or (character == "{" and self._braces(self.next - 1)):
            self.refuse(f"{character} with nothing to repeat")
        return single(character)

    def _braces(self, at: int) -> bool:
        """Whether this brace begins a quantifier; otherwise it is literal."""
        return bool(QUANTIFIER.match(self.pattern, at)) or self.pattern.startswith("{,", at)

    def _quantified(self, group: Expression, characters: CharacterSet | None) -> Expression:
        """A group or a set, repeated as the quantifier after it says."""
        count = self._count()
        if characters is None:
            return self._repeated(group, *count, named=True) if count else group
        inside = self._rules.once((characters, self._bare), lambda: self._written(characters) or EMPTY)
        if inside == EMPTY:
            self.refuse("a class without characters")
        if count:
            repeat = self._repeated(inside, *count, named=False)
            if isinstance(repeat, Repeat):
                self.runs[id(repeat)] = repeat
            return repeat
        # As a rule of its own it counts once for an engine, however often it occurs in the pattern.
        return inside if isinstance(inside, Literal) else self._named(inside)

    def _written(self, characters: CharacterSet) -> Expression | None:
        return characters.bare() if self._bare else characters.written(self._rules)

    def _named(self, expression: Expression) -> Rule:
        if isinstance(expression, Rule):
            return expression
        name = f"part{len(self._rules.rules)}"
        made = self._rules.once(("part", id(expression)), lambda: self._rules.rule(name, expression))
        assert isinstance(made, Rule)
        return made

    def _repeated(self, item: Expression, least: int, most: int | None, *, named: bool) -> Expression:
        if most is not None and most < least:
            self.refuse(f"{{{least},{most}}}")
        if least > MAX_GUIDED_COUNT or (most or 0) > MAX_COUNT:
            self.refuse(f"a count over {MAX_GUIDED_COUNT if least > MAX_GUIDED_COUNT else MAX_COUNT}")
        if most == 0 or item == EMPTY:
            return EMPTY
        if self._rules.can_be_empty(item):
            if most == 1:
                return item if least else choice("", item)
            self.refuse("a repetition of what may be empty")
        if named and (least > 1 or most != 1):
            item = self._named(item)
        return item if least == most == 1 else Repeat(item, least, most)

    def _count(self) -> tuple[int, int | None] | None:
        """The next quantifier."""
        found: tuple[int, int | None] | None = None
        if match := QUANTIFIER.match(self.pattern, self.next):
            self.next = match.end()
            least, comma, most = match.groups()
            found = _number(least), _number(most) if most else None if comma else _number(least)
        elif self.peek("{,"):
            self.refuse("{,")
        else:
            for sign, count in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
                if self.take(sign):
                    found = count
                    break
        if found:
            self.take("?")
            if self.peek("*") or self.peek("+") or self.peek("?") or QUANTIFIER.match(self.pattern, self.next):
                self.refuse(f"{self.pattern[self.next]} after a repetition")
        return found


def _number(digits: str) -> int:
    """Of a count; one of more than nine digits is over every bound."""
    return int(digits.lstrip("0")[:10] or "0")


def _joined(parts: list[Expression]) -> Expression:
    """One after the other; adjacent single texts become one literal."""
    joined: list[Expression] = []
    for part in parts:
        if isinstance(part, Concatenation) and not part.parts:
            continue
        if isinstance(part, Literal) and joined and isinstance(joined[-1], Literal):
            joined[-1] = Literal(joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined[0] if len(joined) == 1 else sequence(*joined)
