"""Tool calls as a Python list: `[get_weather(city="Kyiv"), add(a=1, b=[2])]` (Llama 3.2 and 4).

What must be a call is enforced in Llama 3's JSON, which is read here, too: schemas are of JSON.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from bento_trtllm.api.tools.calls import CallableTool, CallDelta, Delta, new_call
from bento_trtllm.api.tools.json_calls import Nesting
from bento_trtllm.api.tools.llama3 import ToolCallParser

BEGIN = re.compile(r"\[\s*[A-Za-z_][\w.]*\s*\(")
MAYBE = re.compile(r"\[\s*(?:[A-Za-z_][\w.]*\s*)?\Z")
CONSTANTS = {"true": True, "false": False, "null": None}
# Of a list that is waited for; what is longer is text.
LONGEST = 16_384


class PythonicParser:
    """A list is shown when it is whole; else the answer is read as Llama 3's."""

    def __init__(self, tools: Sequence[CallableTool], *, several: bool = True) -> None:
        names = {tool.name for tool in tools}
        self._names = names
        self._several = several
        self._json = ToolCallParser(names, several=several)
        self._held: str | None = ""
        """What may be a list; None once it is known."""
        self._nesting = Nesting(brackets="([{)]}", quotes="\"'")
        self._scanned = 0
        self._listed = 0

    @property
    def calls(self) -> int:
        return self._listed or self._json.calls

    def feed(self, text: str) -> list[Delta]:
        """What the text adds to the answer."""
        if self._held is None:
            return [] if self._listed else self._json.feed(text)
        self._held += text
        bare = self._held.lstrip()
        if not bare:
            return []
        if len(bare) > LONGEST or not (BEGIN.match(bare) or MAYBE.match(bare)):
            return self._as_json()
        end = self._nesting.end(bare[self._scanned :])
        self._scanned += end
        if not self._nesting.closed:
            return []
        found = _read(bare[: self._scanned], self._names)
        if found is None:
            return self._as_json()
        self._held = None
        return self._show(found)

    def finish(self) -> list[Delta]:
        """What was held back, once no more text comes."""
        deltas = [] if self._held is None else self._as_json()
        return deltas + ([] if self._listed else self._json.finish())

    def _as_json(self) -> list[Delta]:
        held, self._held = self._held or "", None
        return self._json.feed(held)

    def _show(self, found: Sequence[tuple[str, dict[str, Any]]]) -> list[Delta]:
        deltas: list[Delta] = []
        for name, values in found if self._several else found[:1]:
            deltas += new_call(self._listed, name), CallDelta(self._listed, json.dumps(values, ensure_ascii=False))
            self._listed += 1
        return deltas


def _read(text: str, names: set[str]) -> list[tuple[str, dict[str, Any]]] | None:
    """The calls of a list, if it is whole and nothing but calls of these functions."""
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return [_call(node, names) for node in tree.elts]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _call(node: ast.expr, names: set[str]) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with names")
    name = ast.unparse(node.func)
    if name not in names:
        raise ValueError("an unknown function")
    return name, {str(keyword.arg): _value(keyword.value) for keyword in node.keywords if keyword.arg}


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
