"""Tool calls as Hermes, Qwen 2.5 and Qwen 3 write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from bento_trtllm.api.tools.calls import CallableTool, Delta
from bento_trtllm.api.tools.llama3 import MAX_CALLS
from bento_trtllm.api.tools.tagged import TaggedCallParser
from bento_trtllm.grammar.expressions import Expression, Repeat, Rule, choice, sequence
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import until

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def calls(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
    return marked(_calls(rules, tools), several=several)


def auto(rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
    """Any text, in which a call stands behind each mark. Raises as `calls`."""
    return between_marks(rules, _calls(rules, tools), several=several)


def marked(call: Expression, *, several: bool) -> Expression:
    """What comes behind a mark, behind one, or several of them one a line."""
    marked = sequence(OPEN, call)
    return sequence(marked, Repeat(sequence("\n", marked), 0, MAX_CALLS - 1)) if several else marked


def between_marks(rules: Rules, call: Expression, *, several: bool) -> Expression:
    """Any text, in which this stands behind each mark; where only one call is wanted, it ends behind it."""
    after = (Rule("words0"),) if several else ()
    return until(rules, "words", OPEN, sequence(call, *after), may_end=True)


def _calls(rules: Rules, tools: Sequence[CallableTool]) -> Expression:
    objects = choice(*(json_call(rules, tool, i) for i, tool in enumerate(tools)))
    return rules.rule("call", sequence("\n", objects, f"\n{CLOSE}"))


def json_call(rules: Rules, tool: CallableTool, i: int) -> Expression:
    """The object of one call."""
    parameters = SchemaRules(rules, tool.parameters, prefix=f"t{i}_").root()
    return sequence(f'{{"name": {dumps(tool.name)}, "arguments": ', parameters, "}")


class HermesParser(TaggedCallParser):
    """The mark at the end may be missing: models forget it."""

    OPEN: ClassVar[str] = OPEN

    def __init__(self, names: Collection[str], *, several: bool = True) -> None:
        super().__init__(names, several=several)
        self._closing = False

    def _outside(self, deltas: list[Delta]) -> bool:
        if not self._closing:
            return super()._outside(deltas)
        bare = self._held.lstrip()
        if CLOSE.startswith(bare):
            self._closing = bare != CLOSE
            self._held = bare if self._closing else ""
            return False
        self._held, self._closing = bare.removeprefix(CLOSE), False
        return True

    def _inside_mark(self, deltas: list[Delta]) -> bool:
        bare = self._held.lstrip()
        if not bare:
            return False
        self._before += self._held[: len(self._held) - len(bare)]
        self._held = bare
        if bare.startswith("{"):
            self._inside, self._state = False, "head"
        else:
            self._refuse(deltas)
        return True

    def _after_part(self) -> None:
        super()._after_part()
        self._closing = self._state == "outside"

    def _shows(self, held: str) -> bool:
        return not self._closing and super()._shows(held)
