"""A regular expression as a deterministic automaton, written as right-linear rules, one for each state.

An engine follows a group that is repeated as calls of rules, in as many ways as a text can be divided: with xgrammar of
OpenVINO GenAI 2026.4.1 and a vocabulary of 128,256, 160 tokens of `([^a]b?)+` take 32 s, and of `([^a]+b?)+` 16 s, more
with each token. With one rule for each state there is one way only, and they take 0.8 to 1.2 s, 400 tokens 1.9 s; in a
JSON string 160 take 1.5 s, and 400 3.4 s.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from bento_trtllm.grammar.charset import CharacterSet
from bento_trtllm.grammar.expressions import (
    EMPTY,
    FEW,
    Characters,
    Choice,
    Expression,
    Literal,
    Repeat,
    Rule,
    choice,
    parts,
    sequence,
)
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.paths import AutomatonTooLarge, Paths

# Limits on all automata of a grammar together: their states, and those in which so many characters may come that an
# engine has to check many tokens, as ebnf.py has it for chains.
MAX_STATES, MAX_WIDE = 1536, 128
AMBIGUOUS = (
    "a repeated group that leaves too many ways to divide a text (fewer or smaller counts within repetitions leave "
    "fewer)"
)
NO_NAMES: Mapping[str, Rule] = {}


@dataclass(frozen=True)
class Automaton:
    """The first state is where it begins; all of them lead to an end. No two edges of a state share a character.

    `calls` are those edges that are made with a text of a rule.
    """

    edges: list[dict[int, CharacterSet]]
    calls: list[dict[str, int]]
    ends: list[bool]

    def write(self, rules: Rules, *, bare: bool, names: Mapping[str, Rule] = NO_NAMES) -> Rule:
        """The texts that it accepts, or without `bare`, such contents of JSON strings. Raises AutomatonTooLarge.

        `names` are the rules that are called, by their names in the expression.
        """
        wide = sum(any(one.size > FEW for one in edges.values()) for edges in self.edges)
        if rules.states + len(self.edges) > MAX_STATES or rules.wide_states + wide > MAX_WIDE:
            raise AutomatonTooLarge
        rules.states += len(self.edges)
        rules.wide_states += wide
        name = f"state{rules.states}"
        for state, edges in enumerate(self.edges):
            options: list[Expression] = [EMPTY] if self.ends[state] else []
            called = [(names[rule], target) for rule, target in self.calls[state].items()]
            options += [sequence(rule, self._state(name, target)) for rule, target in called]
            for target, characters in edges.items():
                one = characters.bare() if bare else characters.written(rules)
                assert one is not None  # surrogates are in no set
                rest = self._state(name, target)
                # Each by itself: an engine that has to enter a rule for a character is ten times slower.
                options += [sequence(way, rest) for way in (one.options if isinstance(one, Choice) else (one,))]
            if edges or called:
                rules.rule(f"{name}_{state}", choice(*options))
        rules.automata.add(f"{name}_0")
        return Rule(f"{name}_0")

    @property
    def called(self) -> set[str]:
        """The names of the rules that are."""
        return {name for calls in self.calls for name in calls}

    def _state(self, name: str, state: int) -> Expression:
        return Rule(f"{name}_{state}") if self.edges[state] or self.calls[state] else EMPTY


def has_repeated_group(expression: Expression, rules: Mapping[str, Expression]) -> bool:
    """Whether something else than one set of characters is repeated."""
    if isinstance(expression, Rule):
        return has_repeated_group(rules[expression.name], rules)
    if isinstance(expression, Repeat) and expression.most != 1:
        item = expression.item
        while isinstance(item, Rule):
            item = rules[item.name]
        if not isinstance(item, Characters) and not (isinstance(item, Literal) and len(item.text) == 1):
            return True
    return any(has_repeated_group(part, rules) for part in parts(expression))


def automaton(
    expression: Expression,
    rules: Mapping[str, Expression],
    recursive: Collection[str] = (),
    empty: Collection[str] = (),
) -> Automaton:
    """Of an expression of unescaped text; rules that are recursive are called. Raises AutomatonTooLarge.

    What is called of a rule that may be empty are its other texts.
    """
    paths = Paths(rules, recursive, empty)
    start = paths.before(expression, paths.node())
    alphabet = _Alphabet(paths)
    begin = paths.reached([start])
    found = {begin: 0}
    todo = [begin]
    moves: list[dict[Letter, int]] = []
    after: dict[frozenset[int], frozenset[int]] = {}
    for nodes in todo:
        targets: dict[Letter, set[int]] = {}
        for node in nodes:
            if node in paths.calls:
                targets.setdefault(paths.calls[node], set()).add(paths.after[node])
            if node in paths.sets:
                letters = alphabet.letters[paths.sets[node]]
                paths.work(len(letters))
                for letter in letters:
                    targets.setdefault(letter, set()).add(paths.after[node])
        moves.append({})
        for step, reached in targets.items():
            key = frozenset(reached)
            if key not in after:
                after[key] = paths.reached(key)
            target = found.setdefault(after[key], len(found))
            if target == len(todo):
                todo.append(after[key])
                if len(todo) > 4 * MAX_STATES:
                    raise AutomatonTooLarge
            moves[-1][step] = target
    may_end = [paths.end in nodes for nodes in todo]
    alike = _alike(moves, may_end, paths)
    edges: list[dict[int, CharacterSet]] = []
    calls: list[dict[str, int]] = []
    ends: list[bool] = []
    for state, of in enumerate(moves):
        if alike[state] < len(edges):
            continue
        joined: dict[int, list[int]] = {}
        calls.append({})
        for step, target in of.items():
            if isinstance(step, str):
                calls[-1][step] = alike[target]
            else:
                joined.setdefault(alike[target], []).append(step)
        edges.append({target: alphabet.characters(letters) for target, letters in joined.items()})
        ends.append(may_end[state])
    return Automaton(edges, calls, ends)


def unambiguous(
    expression: Expression,
    rules: Mapping[str, Expression],
    recursive: Collection[str] = (),
    empty: Collection[str] = (),
) -> bool:
    """Whether each character tells where in the expression it is, however often its items are repeated.

    Not so where there is another way than to call a rule.
    """
    paths = Paths(rules, recursive, empty, counted=False)
    try:
        start = paths.before(expression, paths.node())
        for first in {start, *paths.after.values()}:
            nodes = paths.reached([first])
            if len(nodes) > 1 and any(node in paths.calls for node in nodes):
                return False
            ranges = sorted(one for node in nodes if node in paths.sets for one in paths.sets[node].ranges)
            paths.work(len(ranges))
            if any(one[1] >= other[0] for one, other in pairwise(ranges)):
                return False
    except AutomatonTooLarge:
        return False
    return True


Letter: TypeAlias = int | str
"""A letter of an alphabet, or the name of a rule that is called."""


class _Alphabet:
    """Letters: sets of characters that all sets of an automaton have all of or none of."""

    def __init__(self, paths: Paths) -> None:
        sets = dict.fromkeys(paths.sets.values())
        starts = sorted({start for one in sets for low, high in one.ranges for start in (low, high + 1)})
        at = {start: i for i, start in enumerate(starts)}
        members: list[list[int]] = [[] for _ in starts]
        for number, one in enumerate(sets):
            for low, high in one.ranges:
                paths.work(at[high + 1] - at[low])
                for i in range(at[low], at[high + 1]):
                    members[i].append(number)
        self._ranges: list[list[tuple[int, int]]] = []
        letters: dict[tuple[int, ...], int] = {}
        for i, numbers in enumerate(members):
            if numbers:
                letter = letters.setdefault(tuple(numbers), len(letters))
                if letter == len(self._ranges):
                    self._ranges.append([])
                self._ranges[letter].append((starts[i], starts[i + 1] - 1))
        by_number: list[list[int]] = [[] for _ in sets]
        for alike, letter in letters.items():
            for number in alike:
                by_number[number].append(letter)
        self.letters = dict(zip(sets, by_number, strict=True))

    def characters(self, letters: Iterable[int]) -> CharacterSet:
        """Those of any of these letters."""
        return CharacterSet.of(one for letter in letters for one in self._ranges[letter])


def _alike(moves: list[dict[Letter, int]], ends: list[bool], paths: Paths) -> list[int]:
    """The number of each state's class of states with the same texts, in the order of their first states."""
    classes = [0 if end == ends[0] else 1 for end in ends]
    count = len(set(classes))
    while True:
        paths.work(sum(map(len, moves)))
        numbers: dict[tuple[int, frozenset[tuple[Letter, int]]], int] = {}
        refined = [
            numbers.setdefault(
                (classes[state], frozenset((letter, classes[target]) for letter, target in of.items())), len(numbers)
            )
            for state, of in enumerate(moves)
        ]
        if len(numbers) == count:
            return refined
        classes, count = refined, len(numbers)
