"""How many repetitions stand in each other with nothing between them that must come.

Each lets a text be divided in more ways, all of which an engine follows: with two such, of any character, as in
`([^a]+ "b"?)+`, 160 tokens took xgrammar 16 s and 400 over 100 s (OpenVINO GenAI 2026.4.1, a vocabulary of 128,256),
for all of its requests.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from bento_trtllm.grammar.expressions import Concatenation, Expression, Repeat, Rule, parts, rules_in
from bento_trtllm.grammar.lengths import can_be_empty

MAX_NESTED = 1


class Alone(NamedTuple):
    """How many repetitions in one another may stand alone, and how many of these come with what is called."""

    all: int = 0
    called: int = 0

    @classmethod
    def most(cls, several: "Sequence[Alone]") -> "Alone":
        """The most of each."""
        return cls(*(max((one[i] for one in several), default=0) for i in (0, 1)))


NESTED = "a repetition in a repetition, with nothing between them that must come"


def nested(
    rules: Mapping[str, Expression],
    empty: set[str],
    automata: Collection[str] = (),
    called: Collection[str] | None = None,
) -> dict[str, int]:
    """The most in one another of each rule, up to one more than MAX_NESTED.

    `empty` are the rules that may be empty, and `automata` those that are a repetition written as rules. With `called`
    all between calls of these becomes one automaton, in which repetitions in one another are one.
    """
    users: dict[str, set[str]] = {}
    for name, rule in rules.items():
        for one in rules_in(rule):
            users.setdefault(one, set()).add(name)
    alone, most = {name: Alone(int(name in automata)) for name in rules}, dict.fromkeys(rules, 0)

    def of(part: Expression) -> tuple[Alone, int]:
        """Those that may stand alone in a text of this part, and the most in one another anywhere in it."""
        if isinstance(part, Rule):
            found = alone[part.name]
            return (found if called is not None and part.name not in called else Alone(found.all, found.all)), 0
        inside = [of(one) for one in parts(part)]
        deepest = max((count for _, count in inside), default=0)
        counts = [count for count, _ in inside]
        if isinstance(part, Concatenation):
            needed = [
                count
                for one, count in zip(part.parts, counts, strict=True)
                if not can_be_empty(one, empty.__contains__)
            ]
            return Alone.most(needed or counts) if len(needed) < 2 else Alone(), deepest
        count = Alone.most(counts)
        if isinstance(part, Repeat) and part.most != 1:
            several = count.called + 1
            count = Alone(several, several if called is None or count.called else 0)
        return count, max(count.all, deepest)

    todo = list(rules)
    while todo:
        name = todo.pop()
        count, deepest = of(rules[name])
        most[name] = min(max(most[name], deepest), MAX_NESTED + 1)
        grown = Alone.most([alone[name], Alone(*(min(one, MAX_NESTED + 1) for one in count))])
        if grown != alone[name]:
            alone[name] = grown
            todo += users.get(name, ())
    return most
