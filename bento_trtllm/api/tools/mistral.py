"""Tool calls as Mistral's models write them: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`.

Newer ones write `[TOOL_CALLS]name[ARGS]{…}` for each (mistral-common, tokens/tokenizers/instruct.py, from v11 on).
"""

import re
from collections.abc import Collection, Sequence
from typing import ClassVar

from bento_trtllm.api.tools.calls import CallableTool, Delta
from bento_trtllm.api.tools.hermes import json_call
from bento_trtllm.api.tools.llama3 import MAX_CALLS
from bento_trtllm.api.tools.tagged import TaggedCallParser
from bento_trtllm.grammar.expressions import Expression, Repeat, Rule, choice, sequence
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import until

OPEN, ARGUMENTS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
NAMED = re.compile(r"([\w.-]{1,64})(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*(?=\{)")
# So much may stand before the brace of a call that names its function first.
LONGEST_NAME = 128


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """A list of one call, or of several. Raises GrammarError for parameters that cannot be enforced."""
    return sequence(OPEN, _listed(rules, tools, several=several))


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, in which a list of calls or a call by name stands behind each mark. Raises as `calls`."""
    named = [
        sequence(tool.name, choice("", ARGUMENTS), SchemaRules(rules, tool.parameters, prefix=f"n{i}_").root())
        for i, tool in enumerate(tools)
    ]
    after = (Rule("words0"),) if several else ()
    call = sequence(choice("", " "), choice(_listed(rules, tools, several=several), *named), *after)
    return until(rules, "words", OPEN, call, may_end=True)


def _listed(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    call = rules.rule("call", choice(*(json_call(rules, tool, i) for i, tool in enumerate(tools))))
    return sequence("[", call, *([Repeat(sequence(", ", call), 0, MAX_CALLS - 1)] if several else []), "]")


class MistralParser(TaggedCallParser):
    """A mark for each call, or a list of them behind one."""

    OPEN: ClassVar[str] = OPEN

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        super().__init__(names, several=several)
        self._listed = False
        self._named = False

    def _inside_mark(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip(" \t\r\n," if self._listed else None)
        if not bare:
            return False
        self._held = bare
        if self._listed:
            return self._in_list(deltas, bare)
        if bare.startswith("["):
            self._listed = True
            self._before += "["
            self._held = bare[1:]
            return True
        match = NAMED.match(bare)
        if match is None and "{" not in bare and len(bare) <= LONGEST_NAME:
            return False
        if match is None or match[1] not in self._names:
            self._refuse(deltas)
            return True
        self._held = bare[match.end() :]
        self._inside, self._named = False, True
        self._begin(deltas, match[1])
        return True

    def _in_list(self, deltas: list[Delta], bare: str) -> bool:
        if bare.startswith("]"):
            self._held, self._inside, self._listed = bare[1:], False, False
        elif self.calls and not self._several:
            self._state = "text"
        elif bare.startswith("{"):
            self._inside, self._state = False, "head"
        else:
            self._listed = False
            self._refuse(deltas)
        return True

    def _after_part(self) -> None:
        if self._named:  # there is no object around the arguments
            self._state = "tail"
        super()._after_part()
        if self._state == "outside":
            self._inside, self._named = self._listed, False

    def _refuse(self, deltas: list[Delta]) -> None:
        self._listed = False
        super()._refuse(deltas)

    def _shows(self, held: str) -> bool:
        return not (self._listed and self.calls) and super()._shows(held)
