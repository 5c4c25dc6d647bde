"""What an answer must be, if anything: a grammar of its form, or of the calls that it must be."""

import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from bento_trtllm.api.dialogue.conversation import Form, Toolbox
from bento_trtllm.api.dialogue.thoughts import Thinking, before
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.tools.calls import CallableTool
from bento_trtllm.api.tools.formats import FORMATS, ToolFormat, WriteCalls
from bento_trtllm.grammar import ebnf_rules
from bento_trtllm.grammar.expressions import Expression
from bento_trtllm.grammar.grammar import Grammar, GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.patterns import whole
from bento_trtllm.grammar.schema import SchemaRules, compile_schema, make_grammar
from bento_trtllm.grammar.schema_limits import check_size
from bento_trtllm.grammar.structural_tags import structural_tag
from bento_trtllm.grammar.texts import one_of

# Characters that the answers of one request can be forced to have, all together: towards their ends they are counted in
# tokens at each step, in the event loop.
MAX_FORCED = 32_768
MOST_KEPT = 32
"""Of grammars that were made, and of refusals; of each kind of form, calls and auto."""
Given = ParamSpec("Given")
Made = TypeVar("Made", Grammar, Grammar | None)
Written = tuple[tuple[str, str], ...]
"""Names of tools and their parameters in JSON."""
SHAPES = {
    "schema": "the schema",
    "regex": "the regular expression",
    "choice": "the choice",
    "grammar": "the grammar",
    "structural_tag": "the structural tag",
}


def compile_form(form: Form, answers: int, thinking: Thinking = "no") -> Grammar:
    """The grammar of a form. Raises APIError for what cannot be enforced, or not in so many answers."""
    try:
        # Before anything is done with it: what follows takes time that grows with it.
        if form.kind != "grammar":  # which has its own
            check_size(form.value)
        grammar = _of_form(form.kind, json.dumps(form.value), thinking)
    except GrammarError as error:
        raise bad_request(f"{form.name}: {SHAPES[form.kind]} cannot be enforced: {error}.", param=form.name) from error
    return _checked(grammar, answers)


def compile_calls(tools: Toolbox, answers: int, format: ToolFormat, thinking: Thinking = "no") -> Grammar:
    """The grammar of calls of these tools. Raises as `compile_form`."""
    try:
        grammar = _of_calls(_as_they_are(tools), tools.several, format.name, thinking)
    except GrammarError as error:
        message = f"tools: a function's parameters cannot be enforced: {error}."
        raise bad_request(message, param="tools") from error
    return _checked(grammar, answers)


def compile_auto(tools: Toolbox, format: ToolFormat, thinking: Thinking) -> Grammar | None:
    """The grammar of any answer in which calls of these tools are whole; None where there is none.

    What was not asked to be enforced is not refused: the arguments of a tool whose schema cannot be are any object.
    """
    try:
        return _of_auto(_as_they_are(tools), tools.several, format.name, thinking)
    except GrammarError:
        return None


def _as_they_are(tools: Toolbox) -> Written:
    check_size({tool.name: tool.parameters for tool in tools.callable})
    return tuple((tool.name, json.dumps(tool.parameters)) for tool in tools.callable)


def _or_any_object(parameters: str) -> str:
    try:
        compile_schema(json.loads(parameters))
    except GrammarError:
        return '{"type": "object"}'
    return parameters


def _checked(grammar: Grammar, answers: int) -> Grammar:
    if grammar.least * answers > MAX_FORCED:
        raise bad_request(
            f"n is {answers}, and the shortest answer of this form has {grammar.least} characters: ask for at most "
            f"{MAX_FORCED // grammar.least} at once.",
            param="n",
        )
    return grammar


def _kept(make: Callable[Given, Made]) -> Callable[Given, Made]:
    """Makes each once, or refuses it once: applications send the same again and again.

    Refusals are kept apart, so that whoever sends what is refused pushes out nothing that others use.
    """
    refusals: OrderedDict[object, str] = OrderedDict()
    made = lru_cache(maxsize=MOST_KEPT)(make)

    @wraps(make)
    def kept(*given: Given.args, **named: Given.kwargs) -> Made:
        asked = (given, tuple(sorted(named.items())))
        if (known := refusals.get(asked)) is not None:
            raise GrammarError(known)
        try:
            return made(*given, **named)  # type: ignore[arg-type]
        except GrammarError as error:
            refusals[asked] = str(error)
            if len(refusals) > MOST_KEPT:
                with suppress(KeyError):  # another thread was first
                    refusals.popitem(last=False)
            raise

    return kept


@_kept
def _of_form(kind: str, value: str, thinking: Thinking) -> Grammar:
    form: Any = json.loads(value)

    def root(rules: Rules) -> Expression:
        match kind:
            case "schema":
                return SchemaRules(rules, form).root()
            case "regex":
                return whole(rules, form)
            case "grammar":
                return ebnf_rules.grammar(rules, form)
            case "structural_tag":
                return structural_tag(rules, form)
        return one_of(form)

    return make_grammar(lambda rules: before(rules, root(rules), thinking))


@_kept
def _of_calls(tools: Written, several: bool, format: str, thinking: Thinking) -> Grammar:
    return _written(tools, FORMATS[format].calls, several, thinking)


@_kept
def _of_auto(tools: Written, several: bool, format: str, thinking: Thinking) -> Grammar | None:
    write = FORMATS[format].auto
    with suppress(GrammarError):
        return _written(tools, write, several, thinking)
    with suppress(GrammarError):
        enforceable = tuple((name, _or_any_object(parameters)) for name, parameters in tools)
        return _written(enforceable, write, several, thinking)
    return None


def _written(tools: Written, write: WriteCalls, several: bool, thinking: Thinking) -> Grammar:
    functions = [CallableTool(name, json.loads(parameters)) for name, parameters in tools]
    return make_grammar(lambda rules: before(rules, write(rules, functions, several=several), thinking))
