"""The length of the shortest text of each part of a grammar."""

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from math import inf

from bento_trtllm.grammar.expressions import (
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Repeat,
    Rule,
    Within,
    parts,
    rules_in,
)


class ShortestLengths:
    """Lengths in characters of shortest texts, for all expressions of some rules at once.

    The smallest is settled first, and each part is updated once (Knuth's generalisation of Dijkstra's algorithm), so
    the time is that of one walk over the rules, however they refer to each other.
    """

    def __init__(self, rules: Mapping[str, Expression]) -> None:
        self._queue: list[tuple[int, int, Expression | str]] = []
        self._pushed = 0
        # The expressions that depend on a rule, or on an expression, by id.
        self._waiting: dict[str | int, list[Expression | str]] = {}
        self._missing: dict[int, int] = {}
        self._settled: dict[str | int, int] = {}
        # Ids are valid as long as the expressions exist.
        self._rules = dict(rules)
        seen: set[int] = set()
        for name, rule in self._rules.items():
            self._wait(rule, name)
            self._enter(rule, seen)
        while self._queue:
            size, _, part = heappop(self._queue)
            self._settle(part, size)
        # Two thirds of what this holds, and grammars are kept: from here on only lengths are asked for.
        self._waiting.clear()
        self._missing.clear()

    def of(self, expression: Expression) -> int | None:
        """The length for one expression of the rules; None if it has no finite text."""
        return self._settled.get(_key(expression))

    def empty(self) -> set[str]:
        """The rules that have the empty text."""
        return {name for name in self._rules if self._settled.get(name) == 0}

    def _enter(self, expression: Expression, seen: set[int]) -> None:
        """Record the dependencies below an expression, and the expressions without any."""
        todo = [expression]
        while todo:
            part = todo.pop()
            if isinstance(part, Rule) or id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, Literal):
                self._push(len(part.text), part)
            elif isinstance(part, Characters):
                self._push(1, part)
            elif isinstance(part, Repeat) and not part.least:
                self._push(0, part)
                todo.append(part.item)
            else:
                inner = parts(part)
                for item in inner:
                    self._wait(item, part)
                self._missing[id(part)] = len(inner)
                if isinstance(part, Concatenation) and not inner:
                    self._push(0, part)
                todo += inner

    def _wait(self, part: Expression, user: Expression | str) -> None:
        self._waiting.setdefault(_key(part), []).append(user)

    def _push(self, size: int, part: Expression | str) -> None:
        self._pushed += 1
        heappush(self._queue, (size, self._pushed, part))

    def _settle(self, part: Expression | str, size: int) -> None:
        key = part if isinstance(part, str) else _key(part)
        if key in self._settled:
            return
        self._settled[key] = size
        for user in self._waiting.get(key, ()):
            if isinstance(user, str | Choice | Within):
                self._push(size, user)
            elif isinstance(user, Repeat):
                self._push(size * user.least, user)
            elif isinstance(user, Concatenation):
                self._missing[id(user)] -= 1
                if not self._missing[id(user)]:
                    self._push(sum(self._settled[_key(item)] for item in user.parts), user)


def can_be_empty(expression: Expression, empty: Callable[[str], bool]) -> bool:
    """Whether the empty text is one of its texts; `empty` says so of a rule."""
    if isinstance(expression, Rule):
        return empty(expression.name)
    if isinstance(expression, Choice):
        return any(can_be_empty(option, empty) for option in expression.options)
    if isinstance(expression, Repeat) and not expression.least:
        return True
    inner = parts(expression)
    return not isinstance(expression, Literal | Characters) and all(can_be_empty(part, empty) for part in inner)


def longest(expression: Expression, rules: Mapping[str, Expression]) -> float:
    """The length of its longest text, math.inf if there is none. What is recursive must have longer and longer texts.

    A chain of rules may be longer than Python's recursion is deep.
    """
    known: dict[str, float] = {}
    begun: set[str] = set()
    todo = list(rules_in(expression))

    def of(part: Expression) -> float:
        if isinstance(part, Rule):
            return known.get(part.name, inf)
        if isinstance(part, Literal):
            return len(part.text)
        if isinstance(part, Characters):
            return 1
        if isinstance(part, Repeat):
            return inf if part.most is None else part.most * of(part.item)
        if isinstance(part, Within):
            return min(part.most, of(part.item))
        sizes = map(of, parts(part))
        return max(sizes, default=0) if isinstance(part, Choice) else sum(sizes)

    while todo:
        name = todo[-1]
        if name in begun:
            todo.pop()
            if name not in known:
                known[name] = of(rules[name])
        else:
            begun.add(name)
            todo += [one for one in rules_in(rules[name]) if one not in begun]
    return of(expression)


def _key(expression: Expression) -> str | int:
    return expression.name if isinstance(expression, Rule) else id(expression)
