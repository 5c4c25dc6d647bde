"""Tool calls as Qwen 3 Coder writes them: `<tool_call><function=f><parameter=p>…</parameter></function></tool_call>`.

What must be a call is enforced in the form of Qwen 3, which is read here, too.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bento_trtllm.api.tools.calls import CallableTool, CallDelta, Delta
from bento_trtllm.api.tools.hermes import HermesParser

FUNCTION, END = "<function=", "</function>"
HEAD = re.compile(r"<function=([^>\n]{1,64})>")
PARAMETER = re.compile(r"<parameter=([^>\n]{1,256})>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)


class QwenParser(HermesParser):
    """A call in this form is shown when it is whole: its arguments are no JSON before."""

    def __init__(self, tools: Sequence[CallableTool], *, several: bool = True) -> None:
        super().__init__({tool.name for tool in tools}, several=several)
        self._parameters = {tool.name: tool.parameters for tool in tools}

    def _inside_mark(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip()
        if FUNCTION.startswith(bare[: len(FUNCTION)]) and END not in bare:
            return False
        head = HEAD.match(bare)
        if head is None or head[1] not in self._names:
            return super()._inside_mark(deltas)
        body, _, rest = bare[head.end() :].partition(END)
        schema: Any = self._parameters[head[1]].get("properties")
        values = {name: _value(text, schema, name) for name, text in PARAMETER.findall(body)}
        self._begin(deltas, head[1])
        deltas.append(CallDelta(self.calls - 1, json.dumps(values, ensure_ascii=False)))
        self._held, self._inside, self._state = rest, False, "outside"
        self._closing = True
        return True


def _value(text: str, properties: Any, name: str) -> Any:
    """A parameter's value: text where the schema wants a string, else JSON where it is."""
    text = text.removeprefix("\n").removesuffix("\n")
    schema = properties.get(name) if isinstance(properties, Mapping) else None
    if isinstance(schema, Mapping) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
