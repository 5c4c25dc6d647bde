"""Reads xgrammar's EBNF, which TensorRT-LLM, OpenVINO GenAI and vLLM take, and most of llama.cpp's GBNF.

Rules are `name ::= expression`, each on a line of its own: texts in double quotes, classes of characters, names of
rules, groups, `|`, and `* + ? {m} {m,} {m,n}`; `#` begins a comment (xgrammar's docs/defining_structures/
ebnf_grammar.md, 2026-08). As in GBNF an alternative may be left empty. Left out of xgrammar's are macros such as
`Regex(…)`, options of rules, and lookahead.
"""

import re
from dataclasses import dataclass, field
from typing import NoReturn

from bento_trtllm.grammar.charset import LAST, CharacterSet
from bento_trtllm.grammar.ebnf import MAX_GUIDED_COUNT
from bento_trtllm.grammar.expressions import EMPTY, Expression, Literal, Repeat, Rule, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.limits import MAX_COUNT

# As of schemas (schema_limits.py): characters, elements, and groups within groups.
MAX_CHARACTERS, MAX_PARTS, MAX_DEPTH = 65_536, 10_000, 64

# All possessive: what is sent cannot make them try twice.
NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*+")
GAP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*+)*+")
ASSIGN = "::="
RULE = re.compile(rf"({NAME.pattern}){GAP.pattern}{ASSIGN}")
OPTIONS = re.compile(rf"{NAME.pattern}\[[^\]\r\n]*+\][ \t]*+{ASSIGN}")
COUNT = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*([0-9]{1,9})?[ \t]*)?\}")
SIGNS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
MACRO = re.compile(r"(TagDispatch|Regex|Substring|Token|ExcludeToken|TokenTagDispatch)\(")
CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "e": "\x1b"}
CODE = re.compile(r"x([0-9a-fA-F]{1,8})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
PLAIN = "\"\\/'?"
PLAIN_IN_CLASS = PLAIN + "^$.*+()[]{}|-"


@dataclass
class Definitions:
    """Rules by name, in their order: what each is, where it stands, and where it is first referred to.

    `Rule`s in the expressions have the names of the grammar; a Repeat's item may be empty.
    """

    text: str
    rules: dict[str, Expression] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    references: dict[str, int] = field(default_factory=dict)

    def refuse(self, place: int, what: str) -> NoReturn:
        """Raise GrammarError with the line and the column of a place."""
        raise GrammarError(f"{where(self.text, place)}: {what}")


def where(text: str, place: int) -> str:
    """A place in a text, counted from 1."""
    return f"line {text.count(chr(10), 0, place) + 1}, column {place - text.rfind(chr(10), 0, place)}"


def read(text: str) -> Definitions:
    """The rules of a grammar, which may refer to rules that are not there. Raises GrammarError."""
    if len(text) > MAX_CHARACTERS:
        raise GrammarError(f"it is too large: it has {len(text)} characters, at most {MAX_CHARACTERS} are supported")
    reader = _Reader(text)
    reader.read()
    return reader.found


class _Reader:
    def __init__(self, text: str) -> None:
        self.found = Definitions(text)
        self._text = text
        self._next = 0
        self._parts = 0
        self._sets: dict[CharacterSet, Expression | None] = {}
        self._skip()

    def read(self) -> None:
        while self._next < len(self._text):
            start = self._next
            if OPTIONS.match(self._text, start):
                self._refuse("options of a rule, such as max_tokens, are not supported")
            rule = RULE.match(self._text, start)
            if not rule:
                hint = "" if ASSIGN in self._text else ": rules are written name ::= expression, as in xgrammar's EBNF"
                self._refuse(f"a rule is expected here, and there is {self._seen()}{hint}")
            name = rule[1]
            if name in self.found.rules:
                self._refuse(f"the rule {name[:80]} is there twice")
            if self._text[self._text.rfind("\n", 0, start) + 1 : start].strip(" \t\r"):
                self._refuse(f"the rule {name[:80]} does not begin on a line of its own")
            self._next = rule.end()
            self._skip()
            self.found.places[name] = start
            self.found.rules[name] = self._alternatives(0)
            if self._peek(")"):
                self._refuse("there is a ) without its (")

    def _alternatives(self, depth: int) -> Expression:
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else choice(*options)

    def _sequence(self, depth: int) -> Expression:
        parts: list[Expression] = []
        while self._next < len(self._text) and self._text[self._next] not in "|)":
            if RULE.match(self._text, self._next):
                break
            parts.append(self._quantified(depth))
        return parts[0] if len(parts) == 1 else sequence(*(part for part in parts if part != EMPTY))

    def _quantified(self, depth: int) -> Expression:
        self._parts += 1
        if self._parts > MAX_PARTS:
            self._refuse(f"it is too large: here begins what is over {MAX_PARTS} elements")
        element = self._element(depth)
        if (count := self._count()) is None:
            return element
        place = self._next
        if self._count() is not None:
            self._refuse("one repetition follows another: put what is repeated in parentheses", place)
        least, most = count
        return EMPTY if most == 0 or element == EMPTY else Repeat(element, least, most)

    def _element(self, depth: int) -> Expression:
        start = self._next
        if self._peek("(="):
            self._refuse("lookahead, (=…), is not supported")
        if self._take("("):
            if depth >= MAX_DEPTH:
                self._refuse(f"groups are nested over {MAX_DEPTH} deep", start)
            inner = self._alternatives(depth + 1)
            if not self._take(")"):
                self._refuse("there is no ) for this (", start)
            return inner
        if self._text[start] == '"':
            return self._literal()
        if self._text[start] == "[":
            return self._class()
        if macro := MACRO.match(self._text, start):
            self._refuse(f"{macro[1]}(…) is not supported")
        name = NAME.match(self._text, start)
        if not name:
            self._refuse(
                f"a text in double quotes, a class, a name or a group is expected, and there is {self._seen()}"
            )
        self._next = name.end()
        if OPTIONS.match(self._text, start):
            self._refuse("options of a rule, such as max_tokens, are not supported", start)
        self._skip()
        self.found.references.setdefault(name[0], start)
        return Rule(name[0])

    def _literal(self) -> Expression:
        start = self._next
        self._next += 1
        letters: list[str] = []
        while (letter := self._one(start, "text")) != '"':
            letters.append(self._escape(PLAIN) if letter == "\\" else letter)
        self._skip()
        return Literal("".join(letters)) if letters else EMPTY

    def _class(self) -> Expression:
        start = self._next
        self._next += 1
        negated = self._text.startswith("^", self._next)
        self._next += negated
        ranges: list[tuple[int, int]] = []
        while not self._text.startswith("]", self._next):
            place = self._next
            low = high = self._member(start)
            if self._text.startswith("-", self._next) and not self._text.startswith("-]", self._next):
                self._next += 1
                high = self._member(start)
            if high < low:
                self._refuse("this range ends before it begins", place)
            ranges.append((low, high))
        self._next += 1
        self._skip()
        chosen = CharacterSet.of(ranges)
        chosen = ~chosen if negated else chosen
        if chosen not in self._sets:
            self._sets[chosen] = chosen.bare()
        one = self._sets[chosen]
        if one is None:
            self._refuse("this class has no character", start)
        return one

    def _member(self, start: int) -> int:
        letter = self._one(start, "class")
        if letter == "\\":
            if self._text[self._next : self._next + 1] in [*"dDsSwW"]:
                self._refuse(rf"\{self._text[self._next]} is not supported: write the ranges, as [0-9]", self._next - 1)
            letter = self._escape(PLAIN_IN_CLASS)
        return ord(letter)

    def _one(self, start: int, what: str) -> str:
        """The next character of what began at `start`."""
        letter = self._text[self._next : self._next + 1]
        if not letter or letter in "\r\n":
            self._refuse(f"this {what} has no end on its line", start)
        if "\ud800" <= letter <= "\udfff":
            self._refuse("here is half of a surrogate pair, which is not a character")
        self._next += 1
        return letter

    def _escape(self, plain: str) -> str:
        """The character that is meant by what follows a backslash."""
        start = self._next - 1
        if code := CODE.match(self._text, self._next):
            self._next = code.end()
            value = int(next(filter(None, code.groups())), 16)
            if value > LAST or 0xD800 <= value <= 0xDFFF:
                self._refuse(f"{self._text[start : self._next]} is not a character", start)
            return chr(value)
        letter = self._text[self._next : self._next + 1]
        self._next += 1
        if letter in CONTROLS:
            return CONTROLS[letter]
        if not letter or letter not in plain:
            self._refuse(f"{self._text[start : self._next].strip()} is no escape", start)
        return letter

    def _count(self) -> tuple[int, int | None] | None:
        start = self._next
        for sign, count in SIGNS.items():
            if self._take(sign):
                return count
        if not self._peek("{"):
            return None
        found = COUNT.match(self._text, start)
        if not found:
            self._refuse("counts are written {2}, {2,} or {2,5}")
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if most is not None and most < least:
            self._refuse(f"the most, {most}, is less than the least, {least}")
        if least > MAX_GUIDED_COUNT or (most or 0) > MAX_COUNT:
            self._refuse(f"at most {MAX_GUIDED_COUNT} may be required and {MAX_COUNT} allowed")
        self._next = found.end()
        self._skip()
        return least, most

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._next)

    def _take(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._next += len(text)
        self._skip()
        return True

    def _skip(self) -> None:
        """White space and comments."""
        gap = GAP.match(self._text, self._next)
        assert gap
        self._next = gap.end()

    def _seen(self) -> str:
        """What is there, as shown in errors."""
        return ascii(self._text[self._next : self._next + 1]) if self._next < len(self._text) else "nothing"

    def _refuse(self, what: str, place: int | None = None) -> NoReturn:
        self.found.refuse(self._next if place is None else place, what)
