"""Calls that are JSON objects with a name and arguments, read as they come: what several formats have in common."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Literal

from bento_trtllm.api.tools.calls import CallDelta, Delta, new_call
from bento_trtllm.grammar.json import dumps

State = Literal["outside", "head", "arguments", "tail", "text"]


class JSONCallParser(ABC):
    """Tells text from calls of these functions. Holds text back only while it may belong to the head of a call.

    A format says what may stand outside of calls, and so where one begins.
    """

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        self._names = names
        self._several = several
        self._state: State = "outside"
        self._held = ""
        self._before = ""
        """What was taken before a head, in case it turns out not to be one."""
        self._nesting = Nesting()
        self.calls = 0

    def feed(self, text: str) -> list[Delta]:
        """What the text adds to the answer."""
        deltas: list[Delta] = []
        self._held += text
        while self._held and self._advance(deltas):
            pass
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back, once no more text comes."""
        held = self._before + self._held if self._state == "head" else self._held
        self._held = ""
        return [held] if held and self._state in ("outside", "head") and self._shows(held) else []

    @abstractmethod
    def _outside(self, deltas: list[Delta]) -> bool:
        """Take a step outside of a call; false if it needs more text. A call's head begins with its brace."""

    @abstractmethod
    def _shows(self, held: str) -> bool:
        """Whether what was held back at the end is text of the answer."""

    def _advance(self, deltas: list[Delta]) -> bool:
        match self._state:
            case "outside":
                return self._outside(deltas)
            case "head":
                return self._open(deltas)
            case "arguments" | "tail":
                end = self._nesting.end(self._held)
                part, self._held = self._held[:end], self._held[end:]
                if self._state == "arguments":
                    deltas.append(CallDelta(self.calls - 1, part))
                if self._nesting.closed:
                    self._after_part()
            case "text":
                # After a call there is nothing more to say; a second call may have been forbidden.
                if not self.calls:
                    deltas.append(self._held)
                self._held = ""
        return True

    def _after_part(self) -> None:
        """The arguments have ended, or the call's own object."""
        self._state = "outside" if self._state == "tail" else "tail"
        # The call's own brace is open still.
        self._nesting = Nesting(depth=1)

    def _open(self, deltas: list[Delta]) -> bool:
        head = read_head(self._held, self._names)
        if head == "more":
            return False
        if head is None:
            self._refuse(deltas)
            return True
        name, start = head
        self._held = self._held[start:]
        self._begin(deltas, name)
        return True

    def _refuse(self, deltas: list[Delta]) -> None:
        """What looked like a call is not one."""
        self._held = self._before + self._held
        self._state = "text"

    def _begin(self, deltas: list[Delta], name: str) -> None:
        """A call of a function; its arguments follow."""
        deltas.append(new_call(self.calls, name))
        self.calls += 1
        self._before = ""
        self._state, self._nesting = "arguments", Nesting()


class Nesting:
    """Finds the end of a JSON object, or of what else has brackets and strings, fed in pieces."""

    def __init__(self, depth: int = 0, *, brackets: str = "{[}]", quotes: str = '"') -> None:
        self._depth = depth
        self._opening, self._closing = brackets[: len(brackets) // 2], brackets[len(brackets) // 2 :]
        self._quotes = quotes
        self._string = ""
        self._escaped = False
        self.closed = False

    def end(self, text: str) -> int:
        """How much of the text belongs to the object; `closed` says whether that is its end."""
        for i, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._string:
                self._escaped = character == "\\"
                self._string = "" if character == self._string else self._string
            elif character in self._quotes:
                self._string = character
            elif character in self._opening:
                self._depth += 1
            elif character in self._closing:
                self._depth -= 1
                if not self._depth:
                    self.closed = True
                    return i + 1
        return len(text)


NAME_KEYS = ("name", "function")
ARGUMENT_KEYS = ("parameters", "arguments")


def read_head(text: str, names: Collection[str]) -> tuple[str, int] | Literal["more"] | None:
    """A call's function, and where in the text its arguments begin; or "more", or None if it is no call."""
    at = 1
    name = ""
    while True:
        key, at = _string(text, at, ("type", *NAME_KEYS, *ARGUMENT_KEYS))
        if not key:
            return "more" if at < 0 else None
        at = _after(text, at, ":")
        if at < 0:
            return "more"
        if not at:
            return None
        if key in ARGUMENT_KEYS:
            if text[at:].strip():
                start = len(text) - len(text[at:].lstrip())
                return (name, start) if name and text[start] == "{" else None
            return "more" if name else None
        value, at = _string(text, at, names if key in NAME_KEYS else ("function",))
        if not value:
            return "more" if at < 0 else None
        name = value if key in NAME_KEYS else name
        at = _after(text, at, ",")
        if at < 0:
            return "more"
        if not at:
            return None


def _string(text: str, at: int, known: Collection[str]) -> tuple[str, int]:
    """The string that begins here, if it is one of the known, and its end; "" and -1 if it may yet become one."""
    rest = text[at:].lstrip()
    for value in known:
        quoted = dumps(value)
        if rest.startswith(quoted):
            return value, len(text) - len(rest) + len(quoted)
    return "", -1 if any(dumps(value).startswith(rest) for value in known) else 0


def _after(text: str, at: int, mark: str) -> int:
    """The place after a mark; -1 if it may yet come, 0 if something else did."""
    rest = text[at:].lstrip()
    if not rest:
        return -1
    return len(text) - len(rest) + 1 if rest[0] == mark else 0
