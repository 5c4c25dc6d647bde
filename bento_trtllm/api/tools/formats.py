"""The formats by name, and which of them a chat template speaks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bento_trtllm.api.tools import hermes, llama3, mistral, pythonic, qwen
from bento_trtllm.api.tools.calls import CallableTool, Delta
from bento_trtllm.grammar.expressions import Expression
from bento_trtllm.grammar.json import Rules


class CallParser(Protocol):
    """Reads one answer."""

    @property
    def calls(self) -> int:
        """How many there were so far."""
        ...

    def feed(self, text: str) -> list[Delta]:
        """What a text adds to the answer."""
        ...

    def finish(self) -> list[Delta]:
        """What was held back, once no more text comes."""
        ...


class WriteCalls(Protocol):
    """The calls that an answer may consist of, as rules of a grammar."""

    def __call__(self, rules: Rules, tools: Sequence[CallableTool], *, several: bool) -> Expression:
        """One call, or several. Raises GrammarError for parameters that cannot be enforced."""
        ...


class MakeParser(Protocol):
    """A parser for an answer that may call these tools."""

    def __call__(self, tools: Sequence[CallableTool], *, several: bool) -> CallParser: ...


@dataclass(frozen=True)
class ToolFormat:
    """`marks` are control tokens that are a part of calls, `signs` texts by which a template is known to speak it.

    `auto` is any text in which what begins as a call is one.
    """

    name: str
    calls: WriteCalls
    parser: MakeParser
    auto: WriteCalls
    signs: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


class _ByName(Protocol):
    def __call__(self, names: set[str], *, several: bool) -> CallParser: ...


def _by_name(make: _ByName, tools: Sequence[CallableTool], *, several: bool) -> CallParser:
    return make({tool.name for tool in tools}, several=several)


def _named(make: _ByName) -> MakeParser:
    return partial(_by_name, make)


LLAMA3 = ToolFormat("llama3", llama3.calls, _named(llama3.ToolCallParser), llama3.auto)
FORMATS = {
    made.name: made
    for made in (
        LLAMA3,
        ToolFormat(
            "mistral",
            mistral.calls,
            _named(mistral.MistralParser),
            mistral.auto,
            (mistral.OPEN,),
            (mistral.OPEN, mistral.ARGUMENTS, mistral.CALL_ID),
        ),
        ToolFormat("qwen", qwen.calls, qwen.QwenParser, qwen.auto, (qwen.FUNCTION,), (hermes.OPEN, hermes.CLOSE)),
        ToolFormat(
            "hermes",
            hermes.calls,
            _named(hermes.HermesParser),
            hermes.auto,
            (hermes.OPEN,),
            (hermes.OPEN, hermes.CLOSE),
        ),
        # As Meta's documents and templates describe it to the model.
        ToolFormat("pythonic", pythonic.calls, _named(pythonic.PythonicParser), pythonic.auto, ("func_name1(",)),
    )
}
AUTO = "auto"


def choose(name: str, templates: Iterable[str]) -> ToolFormat:
    """The format of that name; with AUTO the first that one of the templates has a sign of, or Llama 3's."""
    if name != AUTO:
        return FORMATS[name]
    sources = list(templates)
    found = (made for made in FORMATS.values() if any(sign in source for sign in made.signs for source in sources))
    return next(found, LLAMA3)
