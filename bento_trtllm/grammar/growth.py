"""Rules that lead to themselves, with more behind, and need no character of few before that.

Each of many characters then may begin another of them or be what is behind one: with xgrammar of OpenVINO GenAI
2026.4.1, a vocabulary of 128,256 and `s ::= [^<>] s [^<>] | [^<>]`, 40 tokens take 5 s, and more with each.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bento_trtllm.grammar.expressions import Characters, Choice, Concatenation, Expression, Literal, Repeat, Rule, parts
from bento_trtllm.grammar.lengths import ShortestLengths

GROWING = (
    "itself in it with more behind, and nothing before that must be one of few characters: begin it with a text of its "
    "own, such as a bracket"
)


class _Step(NamedTuple):
    """A rule that comes before any of few characters; `last`: with nothing behind it."""

    name: str
    last: bool


def growing(rules: Mapping[str, Expression]) -> str | None:
    """The first of such rules, which are known to end."""
    many = {name: _of_many(rule) for name, rule in rules.items()}
    sizes = ShortestLengths(many)
    steps = {name: [*_steps(rule, sizes, last=True)] for name, rule in many.items()}
    group = _groups({name: [step.name for step in each] for name, each in steps.items()})
    for name, each in steps.items():
        if any(not step.last and group[step.name] == group[name] for step in each):
            return name
    return None


def _of_many(expression: Expression) -> Expression:
    """Without what is one of few characters."""
    if isinstance(expression, Literal) or (isinstance(expression, Characters) and not expression.wide):
        return Choice(())
    if isinstance(expression, Concatenation):
        return Concatenation(tuple(map(_of_many, expression.parts)))
    if isinstance(expression, Choice):
        return Choice(tuple(map(_of_many, expression.options)))
    if isinstance(expression, Repeat):
        return Repeat(_of_many(expression.item), expression.least, expression.most)
    return expression


def _steps(expression: Expression, sizes: ShortestLengths, *, last: bool) -> Iterator[_Step]:
    """Of what is of many characters; what has no text of them ends it."""
    if isinstance(expression, Rule):
        yield _Step(expression.name, last)
    elif isinstance(expression, Concatenation):
        for i, part in enumerate(expression.parts):
            yield from _steps(part, sizes, last=last and i == len(expression.parts) - 1)
            if sizes.of(part) is None:
                return
    else:
        once = not isinstance(expression, Repeat) or expression.most == 1
        for part in parts(expression):
            yield from _steps(part, sizes, last=last and once)


def _groups(leads: Mapping[str, list[str]]) -> dict[str, str]:
    """For each its group, by the name of one: of those that lead to each other (Kosaraju's algorithm)."""
    order: list[str] = []
    seen = set[str]()
    for start in leads:
        path = [] if start in seen else [(start, iter(leads[start]))]
        seen.add(start)
        while path:
            name, rest = path[-1]
            following = next((one for one in rest if one not in seen), None)
            if following is None:
                order.append(name)
                path.pop()
            else:
                seen.add(following)
                path.append((following, iter(leads[following])))
    back: dict[str, list[str]] = {name: [] for name in leads}
    for name, each in leads.items():
        for one in each:
            back[one].append(name)
    group: dict[str, str] = {}
    for start in reversed(order):
        todo = [start]
        while todo:
            name = todo.pop()
            if name not in group:
                group[name] = start
                todo += back[name]
    return group
