"""Grammars: rules made of expressions, and the shortest text of each.

ending.py, which follows a text in Python, reads the same rules as the engines, whose form is written by ebnf.py.
"""

from collections.abc import Mapping

from bento_trtllm.errors import BentoTRTLLMError
from bento_trtllm.grammar.ebnf import GuideTooLarge, write
from bento_trtllm.grammar.expressions import Characters, Concatenation, Expression, Literal, Repeat, Rule, Within
from bento_trtllm.grammar.lengths import ShortestLengths

ROOT = "root"


class GrammarError(BentoTRTLLMError):
    """The request cannot be expressed as a grammar."""


# The longest text that a grammar may force on an answer, in characters. It is written, counted in tokens and followed
# while other requests wait; real schemas need far less.
MAX_SHORTEST = 8192
# The size of an expression without a finite text.
ENDLESS = 2**40


class Grammar:
    """Rules by name; an answer is a text of the first one, ROOT. `ebnf` is the engines' form of them.

    `places` says where in a schema a rule comes from. Raises GrammarError if ROOT has no finite text, or none of at
    most MAX_SHORTEST characters, or if the rules are more than an engine should compile.
    """

    def __init__(self, rules: Mapping[str, Expression], places: Mapping[str, str] | None = None) -> None:
        self.rules = dict(rules)
        self._sizes = ShortestLengths(self.rules)
        size = self._sizes.of(Rule(ROOT))
        if size is None:
            raise GrammarError("nothing finite satisfies it")
        if size > MAX_SHORTEST:
            raise GrammarError(self._too_long(size, places or {}))
        try:
            self.ebnf = write(self.rules)
        except GuideTooLarge as error:
            where = (places or {}).get(error.rule)
            raise GrammarError(f"it is too large: {error}{f', most in {where}' if where else ''}") from error

    def _too_long(self, size: int, places: Mapping[str, str]) -> str:
        """Names the part that has no short text: the smallest such part, so that it is easy to find."""
        found = [
            (long, place) for name, place in places.items() if MAX_SHORTEST < (long := self.size(Rule(name))) < ENDLESS
        ]
        size, place = min(found, default=(size, ""))
        return f"it is too large: the shortest text of {place or 'it'} has {size} characters, at most {MAX_SHORTEST} "
        "are supported"

    @property
    def least(self) -> int:
        """The length of its shortest text, in characters."""
        return self.size(Rule(ROOT))

    def size(self, expression: Expression) -> int:
        """The length of the shortest text of an expression of this grammar, or of the rest of one."""
        if isinstance(expression, Literal):
            return len(expression.text)
        if isinstance(expression, Repeat):
            return expression.least and expression.least * self.size(expression.item)
        size = self._sizes.of(expression)
        return ENDLESS if size is None else size

    def shortest(self, expression: Expression) -> str:
        """The shortest text of an expression of this grammar."""
        text: list[str] = []
        todo = [expression]
        while todo:
            part = todo.pop()
            if isinstance(part, Literal):
                text.append(part.text)
            elif isinstance(part, Characters):
                text.append(part.example)
            elif isinstance(part, Rule):
                todo.append(self.rules[part.name])
            elif isinstance(part, Concatenation):
                todo += reversed(part.parts)
            elif isinstance(part, Repeat):
                todo += [part.item] * part.least
            elif isinstance(part, Within):
                todo.append(part.item)
            else:
                todo.append(min(part.options, key=self.size))
        return "".join(text)
