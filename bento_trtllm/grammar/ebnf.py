"""A grammar in the form that both engines take: xgrammar's EBNF.

A repetition is written as a chain of rules, each of which refers to the next at its end, never as `*` or `{m,n}`:
measured with OpenVINO GenAI 2026.4.1, a string of `char{0,1024}` takes 100 ms a token, and as a chain of rules no
longer than an unguided token. The rules of a chain are named after how many items may still come, so that all strings
of a grammar share one chain.

What a grammar costs an engine, measured with a vocabulary of 128,256: 11 ms for each place in a chain that allows any
character, where it has to check every token, and next to nothing for a place that allows few characters; 0.6 kB of
memory for each character of EBNF. A repetition of what several characters make is followed in as many ways as a text
can be divided: 30 to 200 ms a token, and more with each, for `([^a]b?)+`; automaton.py writes such as have one way.
"""

from collections.abc import Iterator, Mapping
from itertools import takewhile

from bento_trtllm.grammar.expressions import (
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Repeat,
    Rule,
    Within,
)

# The engine does not enforce longer counts; generation/output.py does, by ending the answer.
MAX_GUIDED_COUNT = 128
# Limits on what a grammar costs an engine: characters of EBNF, and places of any character, up to 128 in a chain.
MAX_CHARACTERS, MAX_PLACES = 65_536, 256


class GuideTooLarge(Exception):
    """Says which limit was exceeded; `rule` is the largest rule."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


def write(rules: Mapping[str, Expression]) -> str:
    """The rules as EBNF, the first of them first. Raises GuideTooLarge."""
    writer = _Writer()
    for name, rule in rules.items():
        writer.add(name, rule)
    return "".join(f"{name} ::= {text}\n" for name, text in writer.rules.items())


class _Writer:
    def __init__(self) -> None:
        self.rules: dict[str, str] = {}
        # By the id of an item: the name of its chain, and how much of the chain is written.
        self._chains: dict[int, str] = {}
        self._written: dict[str, int] = {}
        self._characters = 0
        self._places = 0
        self._largest = (0, "")

    def add(self, name: str, rule: Expression) -> None:
        """Write a rule. Raises GuideTooLarge."""
        before = self._characters
        self._write(name, self._text(rule))
        # Including its chains, if they are new.
        self._largest = max(self._largest, (self._characters - before, name))
        if self._characters > MAX_CHARACTERS:
            raise GuideTooLarge(f"its grammar has over {MAX_CHARACTERS} characters", self._largest[1])
        if self._places > MAX_PLACES:
            raise GuideTooLarge(f"its lengths of strings add up to over {MAX_PLACES} characters", self._largest[1])

    def _write(self, name: str, text: str) -> None:
        self.rules[name] = text
        self._characters += len(name) + len(text)

    def _text(self, expression: Expression) -> str:
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
        if isinstance(expression, Choice):
            return _options([self._atoms(option) for option in _flat(expression)])
        return " ".join(self._atoms(expression)) or '""'

    def _atoms(self, expression: Expression) -> list[str]:
        """One after the other, each in parentheses if it needs them."""
        if isinstance(expression, Within):
            return self._atoms(expression.item)
        if isinstance(expression, Concatenation):
            return [atom for part in expression.parts for atom in self._atoms(part)]
        if isinstance(expression, Repeat):
            return self._repeat(expression)
        text = self._text(expression)
        return [f"({text})"] if isinstance(expression, Choice) else [text]

    def _repeat(self, repeat: Repeat) -> list[str]:
        """The required items, and the chain of optional ones."""
        item, least, most = repeat.item, repeat.least, repeat.most
        options = item.options if isinstance(item, Choice) else (item,)
        wide = any(isinstance(option, Characters) and option.wide for option in options)
        self._places += least * wide
        required = self._atoms(item) * least
        chain = self._chains.setdefault(id(item), f"more{len(self._chains) + 1}")
        if most is None or most > MAX_GUIDED_COUNT:
            name = f"{chain}_any"
            if name not in self.rules:
                self._write(name, self._step(options, name))
            return [*required, name]
        if most == least:
            return required
        for left in range(self._written.get(chain, 0) + 1, most - least + 1):
            self._write(f"{chain}_{left}", self._step(options, f"{chain}_{left - 1}" if left > 1 else ""))
            self._written[chain] = left
            self._places += wide
        return [*required, f"{chain}_{most - least}"]

    def _step(self, options: tuple[Expression, ...], after: str) -> str:
        return " | ".join(['""', *(" ".join([*self._atoms(option), after]).rstrip() for option in options)])


def _flat(choice: Choice) -> Iterator[Expression]:
    """The options of a choice, with nested choices flattened."""
    for option in choice.options:
        if isinstance(option, Choice):
            yield from _flat(option)
        else:
            yield option


def _options(options: list[list[str]]) -> str:
    """One of these; a common beginning is written once, and short options come first.

    If six times `[0-9]` is an alternative to three times `[0-9]`, the xgrammar of OpenVINO GenAI 2026.4.1 accepts more
    digits than either allows, without end.
    """
    groups: dict[str, list[list[str]]] = {}
    for option in sorted(options, key=len):
        groups.setdefault(option[0] if option else "", []).append(option)
    texts: list[str] = []
    for first, alike in groups.items():
        if not first:
            texts.append('""')
        elif len(alike) == 1:
            texts.append(" ".join(alike[0]))
        else:
            shared = [atoms[0] for atoms in takewhile(lambda atoms: len(set(atoms)) == 1, zip(*alike, strict=False))]
            rest = _options([option[len(shared) :] for option in alike])
            texts.append(" ".join([*shared, *([] if rest == '""' else [f"({rest})"])]))
    return " | ".join(texts)


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
