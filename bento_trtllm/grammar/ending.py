"""How a text that follows a grammar can be ended at once, wherever it stands."""

from collections.abc import Iterable
from typing import TypeAlias

from bento_trtllm.grammar.grammar import ROOT, Characters, Choice, Expression, Grammar, Literal, Rule, Sequence

# What is still to come, the next first, as a linked list: stacks share their ends.
Stack: TypeAlias = "tuple[Expression, Stack] | None"


class Ending:
    """Follows a text character by character, and knows the shortest text that completes it.

    A set of stacks, as a nondeterministic automaton has it; the grammars of JSON leave few of them open. Equal
    stacks are one object, so that comparing them takes no walk down their depth.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._made: dict[tuple[Expression, int], Stack] = {}
        self._stacks = self._open([self._push(Rule(ROOT), None)])

    def feed(self, text: str) -> bool:
        """Follow the text; false if it leaves the grammar."""
        for character in text:
            after: list[Stack] = []
            for stack in self._stacks:
                if stack is None:
                    continue
                top, rest = stack
                if isinstance(top, Literal):
                    if top.text[0] == character:
                        after.append(self._push(Literal(top.text[1:]), rest) if len(top.text) > 1 else rest)
                elif isinstance(top, Characters) and top.has(character):
                    after.append(rest)
            self._stacks = self._open(after)
        return bool(self._stacks)

    def mark(self) -> list[Stack]:
        """This place in the text, for `back`."""
        return self._stacks

    def back(self, mark: list[Stack]) -> None:
        """Return to an earlier place."""
        self._stacks = mark

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return None in self._stacks

    def shortest(self) -> str:
        """The shortest text that completes what was fed."""
        return min((self._complete(stack) for stack in self._stacks), key=len, default="")

    def _complete(self, stack: Stack) -> str:
        parts = []
        while stack is not None:
            parts.append(self._grammar.shortest(stack[0]))
            stack = stack[1]
        return "".join(parts)

    def _open(self, stacks: Iterable[Stack]) -> list[Stack]:
        """The same stacks with a character or a literal on top of each."""
        todo = list(stacks)
        ready: dict[int, Stack] = {}
        while todo:
            stack = todo.pop()
            if stack is None or isinstance(stack[0], Literal | Characters):
                ready[id(stack)] = stack
                continue
            top, rest = stack
            if isinstance(top, Rule):
                todo.append(self._push(self._grammar.rules[top.name], rest))
            elif isinstance(top, Sequence):
                for part in reversed(top.parts):
                    rest = self._push(part, rest)
                todo.append(rest)
            elif isinstance(top, Choice):
                todo += [self._push(option, rest) for option in top.options]
        return list(ready.values())

    def _push(self, top: Expression, rest: Stack) -> Stack:
        return self._made.setdefault((top, id(rest)), (top, rest))
