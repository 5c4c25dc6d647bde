"""A regular expression as a nondeterministic automaton, and so the body of a rule that refers to recursive ones."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bento_trtllm.grammar.charset import SURROGATES, CharacterSet
from bento_trtllm.grammar.expressions import (
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Rule,
    Within,
)

# Steps of the construction of one automaton: some 0.03 s, while light requests wait.
MAX_WORK = 80_000


class AutomatonTooLarge(Exception):
    """It has more states, or takes more work, than is allowed."""


@dataclass
class Paths:
    """A nondeterministic automaton: nodes that lead to others at once, or with a character of a set to another.

    A rule that is `recursive` is no part of it, but called: a node leads with all its texts to another. At the end of
    the whole, where nothing comes after it, it is entered like any other.
    """

    rules: Mapping[str, Expression]
    recursive: Collection[str] = ()
    # Those of them that may be empty; what is called is the rest of their texts.
    empty: Collection[str] = ()
    # Without counts, what may come any number of times stands for what may come several times.
    counted: bool = True
    free: list[list[int]] = field(default_factory=list)
    sets: dict[int, CharacterSet] = field(default_factory=dict)
    calls: dict[int, str] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    end: int = 0
    _left: int = MAX_WORK
    _read: dict[Characters, CharacterSet] = field(default_factory=dict)
    _known: dict[int, list[int]] = field(default_factory=dict)
    _entered: dict[tuple[str, int], int] = field(default_factory=dict)

    def work(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise AutomatonTooLarge

    def node(self, *free: int) -> int:
        self.work(4)
        self.free.append(list(free))
        return len(self.free) - 1

    def before(self, part: Expression, then: int) -> int:
        """The node where a part begins that leads to this one."""
        if isinstance(part, Rule):
            return self._enter(part.name, then)
        if isinstance(part, Literal):
            for character in reversed(part.text):
                then = self._step(CharacterSet(((ord(character), ord(character)),)), then)
            return then
        if isinstance(part, Characters):
            if part not in self._read:
                self._read[part] = _set(part)
            return self._step(self._read[part], then)
        if isinstance(part, Concatenation):
            for one in reversed(part.parts):
                then = self.before(one, then)
            return then
        if isinstance(part, Choice):
            return self.node(*[self.before(option, then) for option in part.options])
        if isinstance(part, Within):
            raise AutomatonTooLarge
        least, most = part.least, part.most
        if not self.counted and most != 1:
            least, most = (2, 2) if least == most else (min(least, 1), None)
        if most is None:
            loop = self.node(then)
            self.free[loop].append(self.before(part.item, loop))
            then = loop
        else:
            last = then
            for _ in range(most - least):
                then = self.node(self.before(part.item, then), last)
        for _ in range(least):
            then = self.before(part.item, then)
        return then

    def _enter(self, name: str, then: int) -> int:
        """A rule, which may lead to itself with nothing after it, or is called."""
        if name in self.recursive and then != self.end:
            node = self.node()
            self.calls[node], self.after[node] = name, then
            return self.node(node, then) if name in self.empty else node
        if (name, then) not in self._entered:
            node = self._entered[name, then] = self.node()
            self.free[node].append(self.before(self.rules[name], then))
        return self._entered[name, then]

    def _step(self, characters: CharacterSet, then: int) -> int:
        node = self.node()
        self.sets[node], self.after[node] = characters, then
        return node

    def reached(self, nodes: Iterable[int]) -> frozenset[int]:
        """The nodes reached at once from these that have a character or a call, and the end."""
        return frozenset(one for node in nodes for one in self._reached(node))

    def _reached(self, node: int) -> list[int]:
        if node not in self._known:
            seen, todo = {node}, [node]
            for one in todo:
                fresh = [next for next in self.free[one] if next not in seen]
                seen.update(fresh)
                todo += fresh
            self.work(len(todo))
            self._known[node] = [one for one in todo if one in self.sets or one in self.calls or one == self.end]
        self.work(len(self._known[node]))
        return self._known[node]


def _set(characters: Characters) -> CharacterSet:
    ranges = CharacterSet.of((ord(low), ord(high)) for low, high in characters.ranges)
    return ~(~(~ranges if characters.negated else ranges) | CharacterSet(SURROGATES))
