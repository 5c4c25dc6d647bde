"""Tool calls in Llama 3.1's JSON format: read as they come, and enforced by a grammar.

A call is `{"name": "get_weather", "parameters": {"city": "Kyiv"}}`; several stand one a line. Models also write
"arguments" for "parameters", "function" for "name", and `"type": "function"` before it: all are read.
"""

from collections.abc import Collection, Sequence
from typing import Literal

from bento_trtllm.api.tools.calls import CallableTool, CallDelta, Delta, new_call
from bento_trtllm.grammar.expressions import Expression, Repeat, choice, sequence
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.schema import SchemaRules

# The most calls in one answer that a grammar lets through.
MAX_CALLS = 16


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
    call = rules.rule("call", choice(*(_call(rules, tool, i) for i, tool in enumerate(tools))))
    return sequence(call, Repeat(sequence("\n", call), 0, MAX_CALLS - 1)) if several else call


def _call(rules: Rules, tool: CallableTool, i: int) -> Expression:
    parameters = SchemaRules(rules, tool.parameters, prefix=f"t{i}_").root()
    return sequence(f'{{"name": {dumps(tool.name)}, "parameters": ', parameters, "}")


State = Literal["between", "head", "arguments", "tail", "text"]


class ToolCallParser:
    """Tells text from calls of these functions. Holds text back only while it may be the head of a call."""

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        self._names = names
        self._several = several
        self._state: State = "between"
        self._held = ""
        self._before = ""
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
        held, self._held = self._held, ""
        return [held] if held and self._state in ("between", "head") and not self.calls else []

    def _advance(self, deltas: list[Delta]) -> bool:
        """Take a step; false if it needs more text."""
        match self._state:
            case "between":
                return self._begin()
            case "head":
                return self._open(deltas)
            case "arguments" | "tail":
                end = self._nesting.end(self._held)
                part, self._held = self._held[:end], self._held[end:]
                if self._state == "arguments":
                    deltas.append(CallDelta(self.calls - 1, part))
                if self._nesting.closed:
                    self._state = "between" if self._state == "tail" else "tail"
                    # The call's own brace is open still.
                    self._nesting = Nesting(depth=1)
            case "text":
                # After a call there is nothing more to say; a second call may have been forbidden.
                if not self.calls:
                    deltas.append(self._held)
                self._held = ""
        return True

    def _begin(self) -> bool:
        bare = self._held.lstrip(" \t\r\n;,[]" if self.calls else " \t\r\n[")
        if not bare:
            return False
        self._state = "head" if bare.startswith("{") and (self._several or not self.calls) else "text"
        if self._state == "head":
            self._before, self._held = self._held[: len(self._held) - len(bare)], bare
        return True

    def _open(self, deltas: list[Delta]) -> bool:
        head = read_head(self._held, self._names)
        if head == "more":
            return False
        if head is None:
            self._held = self._before + self._held
            self._state = "text"
            return True
        name, start = head
        self._held = self._held[start:]
        deltas.append(new_call(self.calls, name))
        self.calls += 1
        self._state, self._nesting = "arguments", Nesting()
        return True


class Nesting:
    """Finds the end of a JSON object, fed in pieces."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._string = False
        self._escaped = False
        self.closed = False

    def end(self, text: str) -> int:
        """How much of the text belongs to the object; `closed` says whether that is its end."""
        for i, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._string:
                self._escaped = character == "\\"
                self._string = character != '"'
            elif character == '"':
                self._string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
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
