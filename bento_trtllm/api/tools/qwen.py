"""Tool calls as Qwen 3 Coder writes them: `<tool_call><function=f><parameter=p>…</parameter></function></tool_call>`.

A text stands there as it is, any other value in JSON. The form of Qwen 3 (hermes.py) is read, too, and stands in a
grammar for tools that this one has no form for, such as a text with a pattern.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bento_trtllm.api.tools.calls import CallableTool, CallDelta, Delta
from bento_trtllm.api.tools.hermes import CLOSE, HermesParser, between_marks, json_call, marked
from bento_trtllm.grammar.assertions import assertions
from bento_trtllm.grammar.expressions import Expression, Rule, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.objects import Notation
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import until

FUNCTION, END, PARAMETER, VALUE_END = "<function=", "</function>", "<parameter=", "</parameter>"
HEAD = re.compile(r"<function=([^>\n]{1,64})>")
KEY = re.compile(r"\s*<parameter=([^>\n]{1,256})>")
AFTER = re.compile(rf"\s*{END}")
# As models that forget a mark write it.
ROUGHLY = re.compile(r"<parameter=([^>\n]{1,256})>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
    return marked(_calls(rules, tools), several=several)


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, in which a call stands behind each mark. Raises as `calls`."""
    return between_marks(rules, _calls(rules, tools), several=several)


def _calls(rules: Rules, tools: Sequence[CallableTool]) -> Expression:
    return rules.rule(
        "call", sequence("\n", choice(*(_tool(rules, tool, i) for i, tool in enumerate(tools))), f"\n{CLOSE}")
    )


def _tool(rules: Rules, tool: CallableTool, i: int) -> Expression:
    # Tried on rules of its own: what was written for a tool without such a form must not stay.
    try:
        SchemaRules(Rules(), tool.parameters).members(TAGS)
    except GrammarError:
        return json_call(rules, tool, i)
    until(rules, "raw", VALUE_END, sequence())
    return sequence(f"{FUNCTION}{tool.name}>\n", SchemaRules(rules, tool.parameters, prefix=f"t{i}_").members(TAGS))


def _tagged(key: str, schema: object, value: Expression) -> Expression:
    """A parameter. Raises GrammarError where a text is restricted in another way than by a list."""
    opened = f"<parameter={key}>"
    if not KEY.fullmatch(opened):
        raise GrammarError(f"{key[:80]} is no name of a parameter")
    if not _is_text(schema):
        return sequence(f"{opened}\n", value, f"\n{VALUE_END}\n")
    assert isinstance(schema, Mapping)
    restricted = assertions(schema)
    del restricted["type"]
    if not restricted:
        return sequence(f"{opened}\n", Rule("raw0"), "\n")
    texts = [restricted.get("const")] if "const" in restricted else restricted.get("enum")
    if len(restricted) > 1 or not texts or not all(isinstance(text, str) and "<" not in text for text in texts):
        raise GrammarError(f"{key[:80]} is restricted")
    return sequence(f"{opened}\n", choice(*texts), f"\n{VALUE_END}\n")


TAGS = Notation("", "", END, _tagged)


class QwenParser(HermesParser):
    """A call in this form is shown when it is whole: its arguments are not JSON before."""

    def __init__(self, tools: Sequence[CallableTool], *, several: bool = True) -> None:
        super().__init__({tool.name for tool in tools}, several=several)
        self._parameters = {tool.name: tool.parameters for tool in tools}

    def _inside_mark(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip()
        head = HEAD.match(bare)
        if head is None and FUNCTION.startswith(bare[: len(FUNCTION)]) and "\n" not in bare and ">" not in bare:
            return False
        if head is None or head[1] not in self._names:
            return super()._inside_mark(deltas)
        found = _read(bare, head.end(), self._properties(head[1]))
        if found == "more":
            return False
        arguments, end = found
        self._show(deltas, head[1], arguments)
        self._held, self._inside, self._state = bare[end:], False, "outside"
        self._closing = True
        return True

    def finish(self) -> list[Delta]:
        """What was held back, once no more text comes. Marks at the end may be missing."""
        bare = self._held.lstrip()
        head = HEAD.match(bare) if self._inside else None
        if head is None or head[1] not in self._names or END not in bare:
            return super().finish()
        deltas: list[Delta] = []
        self._show(deltas, head[1], _dumps(_forgetful(bare[head.end() :], self._properties(head[1]))))
        self._held = ""
        return deltas

    def _properties(self, name: str) -> Mapping[str, Any]:
        properties = self._parameters[name].get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def _show(self, deltas: list[Delta], name: str, arguments: str) -> None:
        self._begin(deltas, name)
        deltas.append(CallDelta(self.calls - 1, arguments))


def _read(text: str, at: int, properties: Mapping[str, Any]) -> tuple[str, int] | Literal["more"]:
    """The arguments of a call in JSON, and the place behind it."""
    values: dict[str, Any] = {}
    while key := KEY.match(text, at):
        end = _end(text, key.end(), properties.get(key[1]))
        if end < 0:
            return "more"
        values[key[1]] = _value(text[key.end() : end], properties.get(key[1]))
        at = end + len(VALUE_END)
    if after := AFTER.match(text, at):
        return _dumps(values), after.end()
    rest = text[at:].lstrip()
    begun = END.startswith(rest) or (rest.startswith(PARAMETER[: len(rest)]) and not {"\n", ">"} & {*rest})
    end = text.find(END, at)
    if begun or end < 0:
        return "more"
    return _dumps(values | _forgetful(text[at:end], properties)), end + len(END)


def _forgetful(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the text of a model that forgot a mark."""
    body = text.partition(END)[0]
    return {name: _value(value, properties.get(name)) for name, value in ROUGHLY.findall(body)}


def _dumps(values: object) -> str:
    return json.dumps(values, ensure_ascii=False)


def _end(text: str, start: int, schema: object) -> int:
    """Where a value's mark at its end begins; -1 if it is not there yet. Within a string of JSON it is none."""
    end = text.find(VALUE_END, start)
    if not _is_text(schema) and text[start:].lstrip()[:1] in ('"', "[", "{"):
        while end >= 0 and '"' in STRING.sub("", text[start:end]):
            end = text.find(VALUE_END, end + 1)
    return end


def _is_text(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def _value(text: str, schema: object) -> Any:
    """A parameter's value: text where the schema wants a string, else JSON where it is."""
    text = text.removeprefix("\n").removesuffix("\n")
    if _is_text(schema):
        return text
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return text
    return value
