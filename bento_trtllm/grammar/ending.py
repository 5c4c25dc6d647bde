"""Finds the shortest valid end of a text that follows a grammar, from any point in it."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, TypeAlias

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
from bento_trtllm.grammar.grammar import ROOT, Grammar

# What is still to come: the next expression, the rest, the length of the shortest text of both, and the last place in
# the text where they may begin so that every Within is kept. A linked list: stacks share their tails.
Stack: TypeAlias = "tuple[Expression | Fence, Stack, int, float] | None"


@dataclass(frozen=True, slots=True)
class Fence:
    """The end of a Within: not after this place in the text."""

    place: int


class Bookmark(NamedTuple):
    """A place in the text, and what may come next."""

    place: int
    stacks: list[Stack]


# The most stacks whose shortest texts are cached; a text has at most MAX_SHORTEST characters.
MAX_KEPT = 256
# The most stacks that are open at once, and on the average of a text that is longer than LONG. Grammars for JSON leave
# few; one of a client's, whose texts can be understood in many ways, may leave more with each character. A text that
# follows none of those that are kept is ended.
MAX_OPEN, USUAL = 1024, 128
LONG = 1024
# How many stacks are kept before those are forgotten that no open one is made of.
SWEEP = 20_000


class Ending:
    """Follows a text character by character, and knows the shortest text that completes it.

    It keeps a set of stacks, like a nondeterministic pushdown automaton. Equal stacks are one object, so that comparing
    them does not depend on their depth.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._made: dict[tuple[Expression | Fence, int], Stack] = {}
        self._sweep_at = SWEEP
        self._opened = 0
        # The number of characters fed.
        self._place = 0
        # By the id of a stack: its shortest text is needed after each token, and most of it stays the same.
        self._texts: dict[int, str] = {}
        self._stacks = self._open([self._push(Rule(ROOT), None)])

    def feed(self, text: str) -> bool:
        """Follow the text; false if it leaves the grammar."""
        for character in text:
            self._place += 1
            after: list[Stack] = []
            for stack in self._stacks:
                if stack is None:
                    continue
                top, rest, *_ = stack
                if isinstance(top, Literal):
                    if top.text[0] == character:
                        after.append(self._push(Literal(top.text[1:]), rest) if len(top.text) > 1 else rest)
                elif isinstance(top, Characters) and top.has(character):
                    after.append(rest)
            self._stacks = self._open(after)
            if len(self._made) > self._sweep_at:
                self._sweep()
        return bool(self._stacks)

    def mark(self) -> Bookmark:
        """This point in the text, for `back`."""
        return Bookmark(self._place, self._stacks)

    def back(self, mark: Bookmark) -> None:
        """Return to an earlier point."""
        self._place, self._stacks = mark

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return None in self._stacks

    @property
    def done(self) -> bool:
        """Whether the text can only end here."""
        return self._stacks == [None]

    @property
    def left(self) -> int:
        """The length in characters of the shortest text that completes what was fed."""
        return min(map(_size, self._stacks), default=0)

    def shortest(self) -> str:
        """The shortest text that completes what was fed."""
        stack = min(self._stacks, key=_size, default=None)
        if len(self._texts) > MAX_KEPT:
            self._texts.clear()
        fresh = []
        while stack is not None and id(stack) not in self._texts:
            fresh.append(stack)
            stack = stack[1]
        text = self._texts[id(stack)] if stack is not None else ""
        for one in reversed(fresh):
            head = "" if isinstance(one[0], Fence) else self._grammar.shortest(one[0])
            text = self._texts[id(one)] = head + text
        return text

    def _open(self, stacks: Iterable[Stack]) -> list[Stack]:
        """The same stacks, expanded until each has a character or a literal on top."""
        todo = list(stacks)
        ready: dict[int, Stack] = {}
        many = self._opened > USUAL * max(self._place, LONG)
        seen = set[int]()
        while todo and len(ready) < (USUAL if many else MAX_OPEN):
            stack = todo.pop()
            if id(stack) in seen:
                continue
            seen.add(id(stack))
            if stack is not None and stack[3] < self._place:
                continue
            if stack is None or isinstance(stack[0], Literal | Characters):
                ready[id(stack)] = stack
                continue
            top, rest, *_ = stack
            if isinstance(top, Rule):
                todo.append(self._push(self._grammar.rules[top.name], rest))
            elif isinstance(top, Concatenation):
                for part in reversed(top.parts):
                    rest = self._push(part, rest)
                todo.append(rest)
            elif isinstance(top, Choice):
                todo += [self._push(option, rest) for option in top.options]
            elif isinstance(top, Fence):
                todo.append(rest)
            elif isinstance(top, Within):
                todo.append(self._push(top.item, self._push(Fence(self._place + top.most), rest)))
            elif isinstance(top, Repeat):
                if not top.least:
                    todo.append(rest)
                if top.most != 0:
                    again = top if top.most is None and not top.least else _less(top)
                    todo.append(self._push(top.item, self._push(again, rest)))
        self._opened += len(ready)
        return list(ready.values())

    def _sweep(self) -> None:
        """Forget the stacks that no open one is made of."""
        kept: dict[tuple[Expression | Fence, int], Stack] = {}
        for open_one in self._stacks:
            stack = open_one
            while stack is not None and (key := (stack[0], id(stack[1]))) not in kept:
                kept[key] = stack
                stack = stack[1]
        self._made = kept
        self._texts.clear()
        self._sweep_at = max(SWEEP, 2 * len(kept))

    def _push(self, top: Expression | Fence, rest: Stack) -> Stack:
        key = (top, id(rest))
        stack = self._made.get(key)
        if stack is None:
            last = inf if rest is None else rest[3]
            if isinstance(top, Fence):
                stack = (top, rest, _size(rest), min(last, top.place))
            else:
                size = self._grammar.size(top)
                stack = (top, rest, size + _size(rest), last - size)
            self._made[key] = stack
        return stack


def _size(stack: Stack) -> int:
    return 0 if stack is None else stack[2]


def _less(repeat: Repeat) -> Repeat:
    """The same after one item."""
    return Repeat(repeat.item, max(repeat.least - 1, 0), None if repeat.most is None else repeat.most - 1)
