"""Tool calls in Llama 3.1's JSON format: read as they come, and enforced by a grammar.

A call is `{"name": "get_weather", "parameters": {"city": "Kyiv"}}`, at the beginning of a line; several stand one a
line. Models also write "arguments" for "parameters", "function" for "name", and `"type": "function"` before it: all
are read.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from bento_trtllm.api.tools.calls import CallableTool, Delta
from bento_trtllm.api.tools.json_calls import JSONCallParser
from bento_trtllm.grammar.expressions import Expression, Repeat, Rule, choice, sequence
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import lines

# The most calls in one answer that a grammar lets through.
MAX_CALLS = 16

# What stands around calls in a list, or between them.
SEPARATORS = " \t\r\n;,[]"


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
    each = (sequence(beginning, rest) for beginning, rest in beginnings(rules, tools).items())
    call = rules.rule("call", choice(*each))
    return sequence(call, Repeat(sequence("\n", call), 0, MAX_CALLS - 1)) if several else call


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, in which a line that begins as a call is one. Raises as `calls`."""
    return within_lines(rules, beginnings(rules, tools), several=several)


def within_lines(rules: Rules, calls: Mapping[str, Expression], *, several: bool) -> Expression:
    """Lines, those that begin as a call with it, and after it further ones, or nothing where one call is wanted."""
    after = choice("", sequence("\n", Rule("text_line"))) if several else choice("")
    skipped = "".join(mark for mark in SEPARATORS if not any(beginning.startswith(mark) for beginning in calls))
    return lines(rules, "text", {beginning: sequence(rest, after) for beginning, rest in calls.items()}, skipped)


def beginnings(rules: Rules, tools: Sequence[CallableTool]) -> dict[str, Expression]:
    """How a call of each tool begins, and how it goes on."""
    return {f'{{"name": {dumps(tool.name)}': _rest(rules, tool, i) for i, tool in enumerate(tools)}


def _rest(rules: Rules, tool: CallableTool, i: int) -> Expression:
    parameters = SchemaRules(rules, tool.parameters, prefix=f"t{i}_").root()
    return rules.rule(f"call{i}", sequence(', "parameters": ', parameters, "}"))


class ToolCallParser(JSONCallParser):
    """A call begins a line. Words before, between and after calls are text, without the white space before calls."""

    # What may stand before the first call, and before others.
    BEFORE: ClassVar[str] = " \t\r\n["
    BETWEEN: ClassVar[str] = SEPARATORS

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        super().__init__(names, several=several)
        self._in_line = False
        """Whether words were read in this line."""
        self._said = False

    def _outside(self, deltas: list[Delta]) -> bool:
        if self._in_line:
            return self._words(deltas, "", self._held)
        bare = self._held.lstrip(self.BETWEEN if self.calls else self.BEFORE)
        if not bare:
            return False
        before = self._held[: len(self._held) - len(bare)]
        if not bare.startswith("{"):
            return self._words(deltas, self._kept(before), bare)
        self._before, self._held = before, bare
        # What comes after the only call that was wanted, if it is another, is nothing to anybody.
        self._state = "head" if self._several or not self.calls else "text"
        return True

    def _words(self, deltas: list[Delta], before: str, text: str) -> bool:
        """The rest of a line, except white space at its end; whether there is more to be read."""
        words, newline, _ = text.partition("\n")
        words = words.rstrip()
        self._say(deltas, before + words)
        self._held, self._in_line = text[len(words) :], not newline
        return bool(newline)

    def _kept(self, before: str) -> str:
        """What of the marks before words is shown: those between calls are not."""
        if not self.calls:
            return before
        return "".join(filter(str.isspace, before)) if self._said else ""

    def _say(self, deltas: list[Delta], text: str) -> None:
        if text:
            deltas.append(text)
            self._said = True

    def _refuse(self, deltas: list[Delta]) -> None:
        """A brace that begins no call."""
        self._state = "outside"
        self._words(deltas, self._kept(self._before), self._held)
        self._before = ""

    def _shows(self, held: str) -> bool:
        return not self.calls or bool(held.strip(SEPARATORS))
