"""Tool calls in Llama 3.1's JSON format: read as they come, and enforced by a grammar.

A call is `{"name": "get_weather", "parameters": {"city": "Kyiv"}}`; several stand one a line. Models also write
"arguments" for "parameters", "function" for "name", and `"type": "function"` before it: all are read.
"""

from collections.abc import Sequence

from bento_trtllm.api.tools.calls import CallableTool, Delta
from bento_trtllm.api.tools.json_calls import JSONCallParser
from bento_trtllm.grammar.expressions import Expression, Repeat, choice, sequence
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import unless

# The most calls in one answer that a grammar lets through.
MAX_CALLS = 16


BEGINNING = '{"name": "'


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
    return sequence(BEGINNING, _from_name(rules, tools, several=several))


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, but what begins as a call is one. Raises as `calls`."""
    return unless(rules, "words", BEGINNING, _from_name(rules, tools, several=several))


def _from_name(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """What comes after the beginning of the first call."""
    call = rules.rule("call", choice(*(_call(rules, tool, i) for i, tool in enumerate(tools))))
    return sequence(call, Repeat(sequence(f"\n{BEGINNING}", call), 0, MAX_CALLS - 1)) if several else call


def _call(rules: Rules, tool: CallableTool, i: int) -> Expression:
    parameters = SchemaRules(rules, tool.parameters, prefix=f"t{i}_").root()
    return sequence(f'{dumps(tool.name)[1:]}, "parameters": ', parameters, "}")


class ToolCallParser(JSONCallParser):
    """An answer is calls or text: which, its first characters tell."""

    def _outside(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip(" \t\r\n;,[]" if self.calls else " \t\r\n[")
        if not bare:
            return False
        self._state = "head" if bare.startswith("{") and (self._several or not self.calls) else "text"
        if self._state == "head":
            self._before, self._held = self._held[: len(self._held) - len(bare)], bare
        return True

    def _shows(self, held: str) -> bool:
        return not self.calls
