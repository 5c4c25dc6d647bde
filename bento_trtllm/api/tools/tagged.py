"""Formats in which a mark stands before a call, with words around it."""

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar

from bento_trtllm.api.tools.calls import Delta
from bento_trtllm.api.tools.json_calls import JSONCallParser


class TaggedCallParser(JSONCallParser):
    """Words before, between and after calls are text, without the white space before calls."""

    OPEN: ClassVar[str]

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        super().__init__(names, several=several)
        self._inside = False
        """Whether the mark was read, and no call yet."""
        self._said = False

    @abstractmethod
    def _inside_mark(self, deltas: list[Delta]) -> bool:
        """Take a step behind the mark; false if it needs more text."""

    def _outside(self, deltas: list[Delta]) -> bool:
        if self._inside:
            return self._inside_mark(deltas)
        if self.calls and not self._said:
            self._held = self._held.lstrip()
        words, mark, rest = self._held.partition(self.OPEN)
        if mark:
            if self.calls and not self._several:
                self._state = "text"
                return True
            shown = words.rstrip()
            self._say(deltas, shown)
            self._before, self._held, self._inside = words[len(shown) :] + mark, rest, True
            return True
        start = next((n for n in range(len(self.OPEN) - 1, 0, -1) if words.endswith(self.OPEN[:n])), 0)
        shown = words[: len(words) - start].rstrip()
        self._say(deltas, shown)
        self._held = words[len(shown) :]
        return False

    def _say(self, deltas: list[Delta], text: str) -> None:
        if text:
            deltas.append(text)
            self._said = True

    def _refuse(self, deltas: list[Delta]) -> None:
        """The mark is a word like any other."""
        self._say(deltas, self._before)
        self._before, self._inside, self._state = "", False, "outside"

    def finish(self) -> list[Delta]:
        """What was held back, once no more text comes."""
        begun = self._inside or self._state == "head"
        held = self._before + self._held if begun else self._held
        shown = self._state in ("outside", "head") and self._shows(held)
        self._held = ""
        return [held] if shown and held else []

    def _shows(self, held: str) -> bool:
        return bool(held.strip()) or not self.calls
