"""Tool calls as a Python list: `[get_weather(city="Kyiv"), add(a=1, b=[2])]` (Llama 3.2 and 4), which begins a line.

A grammar writes values as JSON has them, which Python reads alike but for true, false and null. Llama 3's JSON is read,
too, and stands in a grammar for tools that Python has no form for: parameters without names, or with spaces in them.
"""

import ast
import json
import re
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from bento_trtllm.api.tools import llama3
from bento_trtllm.api.tools.calls import CallableTool, CallDelta, Delta, new_call
from bento_trtllm.api.tools.json_calls import Nesting
from bento_trtllm.grammar.expressions import Expression, Repeat, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.objects import Notation
from bento_trtllm.grammar.schema import SchemaRules

NAME = r"[A-Za-z0-9_][\w.-]*"
BEGIN = re.compile(rf"\[\s*({NAME})\s*\(")
MAYBE = re.compile(rf"\[\s*(?:{NAME}\s*)?\Z")
CALL, KEY = re.compile(rf"\s*({NAME})\s*\("), re.compile(r"\s*([^\W\d]\w*)\s*=\s*")
CLOSE, COMMA = re.compile(r"\s*([)\]])"), re.compile(r"\s*,")
CONSTANTS = {"true": True, "false": False, "null": None}
# Of a list that is waited for; anything longer is text.
LONGEST = 65_536
Found = list[tuple[str, dict[str, Any]]]


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """A list of one call, or of several. Raises GrammarError for parameters that cannot be enforced."""
    written = _arguments(rules, tools)
    if len(written) < len(tools):
        return llama3.calls(rules, tools, several=several)
    call = rules.rule("listed", choice(*(sequence(f"{name}(", rest) for name, rest in written.items())))
    return sequence("[", call, *_more(call, several), "]")


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, in which a line that begins as a list of calls, or as Llama 3's JSON, is one. Raises as `calls`."""
    written = _arguments(rules, tools)
    begun = llama3.beginnings(rules, tools)
    if written:
        call = rules.rule("listed", choice(*(sequence(f"{name}(", rest) for name, rest in written.items())))
        begun |= {f"[{name}(": sequence(rest, *_more(call, several), "]") for name, rest in written.items()}
    return llama3.within_lines(rules, begun, several=several)


def _more(call: Expression, several: bool) -> list[Expression]:
    return [Repeat(sequence(", ", call), 0, llama3.MAX_CALLS - 1)] if several else []


def _arguments(rules: Rules, tools: Sequence[CallableTool]) -> dict[str, Expression]:
    """The arguments of each tool that has a form in Python, by its name."""
    found: dict[str, Expression] = {}
    for i, tool in enumerate(tools):
        # Tried on rules of its own: what was written for a tool without such a form must not stay.
        try:
            SchemaRules(Rules(), tool.parameters).members(KEYWORDS)
        except GrammarError:
            continue
        written = SchemaRules(rules, tool.parameters, prefix=f"p{i}_").members(KEYWORDS)
        found[tool.name] = rules.rule(f"listed{i}", written)
    return found


def _keyword(key: str, _: object, value: Expression) -> Expression:
    if not KEY.fullmatch(f"{key}="):
        raise GrammarError(f"{key[:80]} is no name in Python")
    return sequence(f"{key}=", value)


KEYWORDS = Notation("", ", ", ")", _keyword)


class PythonicParser(llama3.ToolCallParser):
    """A list is shown when it is whole; the rest of an answer is read as Llama 3's."""

    BEFORE: ClassVar[str] = " \t\r\n"
    BETWEEN: ClassVar[str] = " \t\r\n;,]"

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        super().__init__(names, several=several)
        self._begin_list()

    def _begin_list(self) -> None:
        self._nesting = Nesting(brackets="([{)]}", quotes="\"'")
        self._scanned = 0
        """How much of what is held was searched for the end of a list."""

    def _outside(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip(self.BETWEEN if self.calls else self.BEFORE)
        if self._in_line or len(bare) > LONGEST or not self._may_be_calls(bare):
            self._begin_list()
            return super()._outside(deltas)
        self._scanned += self._nesting.end(bare[self._scanned :])
        if not self._nesting.closed:
            return False
        found = _read(bare[: self._scanned], self._names)
        if found is None:
            self._begin_list()
            return super()._outside(deltas)
        if self.calls and not self._several:
            self._state = "text"
            return True
        for name, values in found if self._several else found[:1]:
            deltas += new_call(self.calls, name), CallDelta(self.calls, values)
            self.calls += 1
        self._held = bare[self._scanned :]
        self._begin_list()
        return True

    def _may_be_calls(self, text: str) -> bool:
        begun = BEGIN.match(text)
        return begun[1] in self._names if begun else MAYBE.match(text) is not None


def _read(text: str, names: Collection[str]) -> list[tuple[str, str]] | None:
    """The calls of a list, arguments in JSON, if it is whole and nothing but calls of these functions."""
    try:
        try:
            found = _with_json(text)
        except ValueError:
            tree = ast.parse(text, mode="eval").body
            found = [_call(node) for node in tree.elts] if isinstance(tree, ast.List) else []
        if not found or not all(name in names for name, _ in found):
            return None
        return [(name, _dumps(values)) for name, values in found]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _with_json(text: str) -> Found:
    """The calls of a list whose values are JSON. Raises ValueError for any other."""
    found: Found = []
    at, end = 1, len(text) - 1
    while at < end:
        call = _next(CALL, text, at)
        values: dict[str, Any] = {}
        at = call.end()
        while not (closed := CLOSE.match(text, at)):
            key = _next(KEY, text, at)
            values[key[1]], at = json.JSONDecoder().raw_decode(text, key.end())
            comma = COMMA.match(text, at)
            at = comma.end() if comma else _next(CLOSE, text, at).start()
        found.append((call[1], values))
        comma = COMMA.match(text, closed.end())
        at = comma.end() if comma else _next(CLOSE, text, closed.end()).start(1)
    return found


def _dumps(values: object) -> str:
    """As JSON. Raises ValueError for what JSON cannot hold: half of a surrogate pair, a number that is too large."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def _next(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError("another form")
    return found


def _call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with names")
    return ast.unparse(node.func), {str(word.arg): _value(word.value) for word in node.keywords if word.arg}


def _value(node: ast.expr) -> Any:
    """What JSON has a form for."""
    match node:
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List() | ast.Tuple():
            return [_value(item) for item in node.elts]
        case ast.Dict():
            return {str(_value(key)): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key}
    raise ValueError("no literal")
