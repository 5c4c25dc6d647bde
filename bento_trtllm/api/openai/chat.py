"""POST /v1/chat/completions."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bento_trtllm.api import json_body
from bento_trtllm.api.errors import APIError, bad_request
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai.requests import (
    AssistantMessage,
    ChatRequest,
    Content,
    Message,
    NamedToolChoice,
    ResponseFormatJSONObject,
    ResponseFormatJSONSchema,
    ResponseFormatText,
    Tool,
)
from bento_trtllm.api.openai.sampling import answer_tokens, read_sampling, within
from bento_trtllm.api.openai.tools import CallableTool, ToolCallParser, calls
from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.grammar.expressions import Expression, choice
from bento_trtllm.grammar.grammar import Grammar, GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.schema import SchemaRules, make_grammar
from bento_trtllm.grammar.size import check_size

# Characters that the answers of one request can be forced to have, all together: towards their ends they are counted in
# tokens at each step, in the event loop.
MAX_FORCED = 32_768


@dataclass(frozen=True)
class Chat:
    """A request that was understood: what to ask, and how to read the answer."""

    request: GenerationRequest
    tools: tuple[CallableTool, ...] = ()
    several_calls: bool = True
    top_logprobs: int | None = None

    def parser(self) -> ToolCallParser | None:
        """A reader for one answer, where it may call tools."""
        return ToolCallParser({tool.name for tool in self.tools}, several=self.several_calls) if self.tools else None


def read(request: ChatRequest, model: ServedModel) -> Chat:
    """Understand a request. Raises APIError, and CheckpointError where the template refuses the messages."""
    tools = _tools(request)
    variables: dict[str, Any] = {}
    if tools:
        variables["tools"] = [tool.model_dump(exclude_none=True) for tool in request.tools or ()]
    context = model.manifest.context_length
    with within(context, "messages", *(("tools",) if tools else ())):
        input_ids = model.template.chat([_message(message) for message in request.messages], **variables)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs: true.", param="top_logprobs")
    if request.max_tokens and request.max_completion_tokens:
        raise bad_request("Give max_tokens or max_completion_tokens, not both.", param="max_tokens")
    field = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
    wanted = request.max_completion_tokens or request.max_tokens
    max_tokens = answer_tokens(wanted, len(input_ids), context, field=field, prompt_field="messages")
    several = request.parallel_tool_calls is not False
    top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
    grammar = _grammar(request, tools, several)
    if grammar and grammar.least * (request.n or 1) > MAX_FORCED:
        raise bad_request(
            f"n is {request.n}, and the shortest answer of this form has {grammar.least} characters: ask for at most "
            f"{MAX_FORCED // grammar.least} at once.",
            param="n",
        )
    sampling = read_sampling(request, model.defaults, model.manifest, grammar=grammar, top_logprobs=top_logprobs)
    return Chat(GenerationRequest(input_ids, max_tokens, sampling), tools, several, top_logprobs)


def has_form(request: ChatRequest) -> bool:
    """Whether the answer's form is prescribed, which is more to read than text of that length."""
    return not isinstance(request.response_format, ResponseFormatText | None) or request.tool_choice is not None


def _message(message: Message) -> dict[str, Any]:
    """A message as chat templates know it."""
    fields = message.model_dump(exclude_none=True, exclude={"refusal", "content"})
    if fields["role"] == "developer":
        fields["role"] = "system"
    # Parts are put together before control tokens are looked for: two could make one between them.
    fields["content"] = _text(message.content)
    if isinstance(message, AssistantMessage) and message.tool_calls:
        for call in fields["tool_calls"]:
            call["function"]["arguments"] = _arguments(call["function"]["arguments"])
    else:
        # Templates ask whether it is there.
        fields.pop("tool_calls", None)
    return fields


def _arguments(text: str) -> object:
    """A call's arguments as templates want them: an object. Models write broken JSON; it is shown as it is."""
    if not text.strip():
        return {}
    with suppress(ValueError):
        value = json_body.decode(text.encode())
        return value if isinstance(value, dict) else {} if value is None else text
    return text


def _text(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _tools(request: ChatRequest) -> tuple[CallableTool, ...]:
    """The functions that the answer may call."""
    choice_ = request.tool_choice
    if not request.tools:
        if choice_ not in (None, "none", "auto"):
            raise bad_request("tool_choice needs tools.", param="tool_choice")
        return ()
    tools = tuple(_callable(tool) for tool in request.tools)
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("tools has two functions of one name.", param="tools")
    if isinstance(choice_, NamedToolChoice):
        named = tuple(tool for tool in tools if tool.name == choice_.function.name)
        if not named:
            raise bad_request(f"tool_choice names {choice_.function.name}, which is not in tools.", param="tool_choice")
        return named
    return () if choice_ == "none" else tools


def _callable(tool: Tool) -> CallableTool:
    parameters = tool.function.parameters
    return CallableTool(tool.function.name, parameters or {"type": "object", "additionalProperties": False})


def _grammar(request: ChatRequest, tools: Sequence[CallableTool], several: bool) -> Grammar | None:
    """What the answer must be, if anything."""
    form: dict[str, Any] | None = None
    if isinstance(request.response_format, ResponseFormatJSONSchema):
        form = request.response_format.json_schema.json_schema
    elif isinstance(request.response_format, ResponseFormatJSONObject):
        form = {"type": "object"}
    forced = request.tool_choice == "required" or isinstance(request.tool_choice, NamedToolChoice)
    if form is None and not forced:
        return None
    form = None if forced else form
    # Before anything is done with them: what follows takes time that grows with them.
    for param, part in (("response_format", form), ("tools", {tool.name: tool.parameters for tool in tools})):
        try:
            check_size(part)
        except GrammarError as error:
            raise _unenforceable(error, param) from error
    return _compile(
        None if form is None else json.dumps(form),
        tuple((tool.name, json.dumps(tool.parameters)) for tool in tools),
        several and not isinstance(request.tool_choice, NamedToolChoice),
    )


@lru_cache(maxsize=32)
def _compile(form: str | None, tools: tuple[tuple[str, str], ...], several: bool) -> Grammar:
    """The grammar of answers of a form, or of calls, or of either. Applications send the same again and again."""
    param = ""

    def root(rules: Rules) -> Expression:
        nonlocal param
        options: list[Expression] = []
        if tools:
            param = "tools"
            functions = [CallableTool(name, json.loads(parameters)) for name, parameters in tools]
            options.append(calls(rules, functions, several=several))
        if form is not None:
            param = "response_format"
            schema = json.loads(form)
            options.append(SchemaRules(rules, schema).root())
        return choice(*options)

    try:
        return make_grammar(root)
    except GrammarError as error:
        raise _unenforceable(error, param) from error


def _unenforceable(error: GrammarError, param: str) -> APIError:
    where = "tools: a function's parameters" if param == "tools" else "response_format: the schema"
    return bad_request(f"{where} cannot be enforced: {error}.", param=param)
