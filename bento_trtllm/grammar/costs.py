"""What of a client's grammar costs an engine much for each token, and so has to be written as automata.

Behind a character that ends an item which is repeated, an engine has to look into what comes after it for each token
that goes on there: with xgrammar of OpenVINO GenAI 2026.4.1, a vocabulary of 128,256 and `([^a] "b"?)+`, for nearly all
of them, 33 ms of CPU time a token. A repetition in a repetition takes more with each token (nesting.py).
"""

from collections.abc import Callable, Iterable, Mapping

from bento_trtllm.grammar.expressions import (
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Repeat,
    Rule,
    parts,
    rules_in,
)
from bento_trtllm.grammar.lengths import can_be_empty
from bento_trtllm.grammar.nesting import MAX_NESTED, nested

APART = " "
"""Behind the name of a rule, for the part of it that is called: no rule of a client's has a space in its name."""


class Costs:
    """Of these rules, which have been checked: each has an end, and none begins with itself.

    `empty` are those that may be. `recursive` are some without which none refers to itself: an automaton
    calls them. `costly` are those that have, with what they refer to but these, a repetition that costs much.
    """

    def __init__(self, rules: Mapping[str, Expression], empty: set[str]) -> None:
        self._rules = rules
        self.empty = empty
        self._is_empty = empty.__contains__
        users: dict[str, set[str]] = {name: set() for name in rules}
        for name, rule in rules.items():
            for one in rules_in(rule):
                users[one].add(name)
        self.recursive = _recursive(rules)
        self._wide = _spread(rules, users, lambda name, found: self._ends_wide(rules[name], found))
        self._calling = _spread(
            rules,
            users,
            lambda name, found: name in self.recursive or any(one in found for one in rules_in(rules[name])),
        )
        deep = nested(rules, empty)
        own = {name for name, rule in rules.items() if deep[name] > MAX_NESTED or self._has(rule)}
        self.costly = _spread(
            rules,
            users,
            lambda name, found: (
                name in own or any(one in found and one not in self.recursive for one in rules_in(rules[name]))
            ),
        )

    def apart(self) -> dict[str, Expression]:
        """The rules, with those that are called and cost much split.

        What they have without calls is entered then where they are, and what is called ends otherwise, mostly.
        """
        split = dict(self._rules)
        for name in self.recursive & (self._wide | self.costly):
            rule = self._rules[name]
            inner = [way for way in parts(rule) if any(one in self._calling for one in rules_in(way))]
            if isinstance(rule, Choice) and len(inner) < len(rule.options):
                split[name] = Choice((*(way for way in rule.options if way not in inner), Rule(name + APART)))
                split[name + APART] = Choice(tuple(inner))
        return split

    def repeats(self, repeat: Repeat) -> bool:
        """Whether this repetition costs much by itself."""
        item = repeat.item
        while isinstance(item, Rule):
            item = self._rules[item.name]
        single = isinstance(item, Characters | Literal)
        return repeat.most != 1 and not single and self._ends_wide(repeat.item, self._wide)

    def _has(self, expression: Expression) -> bool:
        if isinstance(expression, Repeat) and self.repeats(expression):
            return True
        return any(map(self._has, parts(expression)))

    def _ends_wide(self, expression: Expression, wide: set[str]) -> bool:
        """Whether a text of it may end with one of many characters."""
        if isinstance(expression, Rule):
            return expression.name in wide
        if isinstance(expression, Characters):
            return expression.wide
        if isinstance(expression, Concatenation):
            for part in reversed(expression.parts):
                if self._ends_wide(part, wide):
                    return True
                if not can_be_empty(part, self._is_empty):
                    return False
            return False
        return any(self._ends_wide(part, wide) for part in parts(expression))


def _recursive(rules: Mapping[str, Expression]) -> set[str]:
    """Rules without which none refers to itself: those that a walk comes back to while it is in them."""
    found, left = set[str](), set[str]()
    for start in rules:
        path = {start: rules_in(rules[start])}
        while path and start not in left:
            name = next(reversed(path))
            one = next(path[name], None)
            if one is None:
                del path[name]
                left.add(name)
            elif one in path:
                found.add(one + APART if one + APART in rules else one)
            elif one not in left:
                path[one] = rules_in(rules[one])
    return found


def _spread(rules: Iterable[str], users: Mapping[str, set[str]], holds: Callable[[str, set[str]], bool]) -> set[str]:
    """The rules for which something holds, which depends on those for which it does."""
    found = set[str]()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in found and holds(name, found):
            found.add(name)
            todo += users[name]
    return found
