"""What an answer must be, if anything: a grammar of its form, or of the calls that it must be."""

import json
from functools import lru_cache

from bento_trtllm.api.dialogue.conversation import Conversation, Names
from bento_trtllm.api.errors import APIError, bad_request
from bento_trtllm.api.tools.calls import CallableTool
from bento_trtllm.api.tools.llama3 import calls
from bento_trtllm.grammar.expressions import Expression
from bento_trtllm.grammar.grammar import Grammar, GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.schema import SchemaRules, make_grammar
from bento_trtllm.grammar.size import check_size

# Characters that the answers of one request can be forced to have, all together: towards their ends they are counted in
# tokens at each step, in the event loop.
MAX_FORCED = 32_768


def compile_form(conversation: Conversation, names: Names) -> Grammar | None:
    """The grammar that the answer must follow. Raises APIError for what cannot be enforced, or not so many times."""
    tools = conversation.tools
    if conversation.form is None and not tools.forced:
        return None
    form = None if tools.forced else conversation.form
    shapes = {tool.name: tool.parameters for tool in tools.callable} if tools.forced else None
    # Before anything is done with them: what follows takes time that grows with them.
    for param, part in ((names.form, form), ("tools", shapes)):
        try:
            check_size(part)
        except GrammarError as error:
            raise _unenforceable(error, param) from error
    try:
        if form is not None:
            grammar = _of_form(json.dumps(form))
        else:
            written = tuple((tool.name, json.dumps(tool.parameters)) for tool in tools.callable)
            grammar = _of_calls(written, tools.several)
    except GrammarError as error:
        raise _unenforceable(error, "tools" if form is None else names.form) from error
    if grammar.least * conversation.answers > MAX_FORCED:
        raise bad_request(
            f"n is {conversation.answers}, and the shortest answer of this form has {grammar.least} characters: ask "
            f"for at most {MAX_FORCED // grammar.least} at once.",
            param="n",
        )
    return grammar


# Applications send the same again and again.
@lru_cache(maxsize=32)
def _of_form(form: str) -> Grammar:
    return make_grammar(lambda rules: SchemaRules(rules, json.loads(form)).root())


@lru_cache(maxsize=32)
def _of_calls(tools: tuple[tuple[str, str], ...], several: bool) -> Grammar:
    def root(rules: Rules) -> Expression:
        functions = [CallableTool(name, json.loads(parameters)) for name, parameters in tools]
        return calls(rules, functions, several=several)

    return make_grammar(root)


def _unenforceable(error: GrammarError, param: str) -> APIError:
    where = "tools: a function's parameters" if param == "tools" else f"{param}: the schema"
    return bad_request(f"{where} cannot be enforced: {error}.", param=param)
