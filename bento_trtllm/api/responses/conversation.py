"""A request of the Responses API in the words that all conversations have."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bento_trtllm.api.dialogue.chat import Chat, understand
from bento_trtllm.api.dialogue.conversation import Conversation, Form, Names, Toolbox, any_object, arguments, choose
from bento_trtllm.api.dialogue.fields import ResponseFormatJSONObject, SamplingFields
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.responses.requests import (
    AllowedTools,
    FunctionTool,
    InputCall,
    InputItem,
    InputMessage,
    InputReasoning,
    InputResult,
    InputText,
    NamedTool,
    ResponsesRequest,
    TextFormatSchema,
    Texts,
)

NAMES = Names("input", "max_output_tokens")
FORM = "text.format"
LOGPROBS = "message.output_text.logprobs"

Message = dict[str, Any]


def read(request: ResponsesRequest, model: ServedModel) -> Chat:
    """Understand a request. Raises APIError, and CheckpointError where the template refuses the messages."""
    scored = LOGPROBS in (request.include or ())
    if request.top_logprobs and not scored:
        raise bad_request(f'top_logprobs needs include: ["{LOGPROBS}"].', param="top_logprobs")
    conversation = Conversation(
        _messages(request),
        _tools(request),
        _form(request),
        request.max_output_tokens,
        top_logprobs=(request.top_logprobs or 0) if scored else None,
    )
    sampling = SamplingFields(temperature=request.temperature, top_p=request.top_p)
    return understand(conversation, sampling, model, NAMES)


def has_form(request: ResponsesRequest) -> bool:
    """Whether the answer's form is prescribed, which is more to read than text of that length."""
    return _form(request) is not None or bool(request.tools)


def _messages(request: ResponsesRequest) -> list[Message]:
    talk: list[Message] = []
    if request.instructions:
        talk.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        return [*talk, {"role": "user", "content": request.input}]
    names: dict[str, str] = {}
    for item in request.input:
        _add(talk, item, names)
    return talk


def _add(talk: list[Message], item: InputItem, names: dict[str, str]) -> None:
    """An item as a message, or as a part of one: thoughts, text and calls in a row are one message to templates."""
    match item:
        case InputResult():
            name = names.get(item.call_id)
            named = {"name": name} if name else {}
            talk.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output), **named})
        case InputCall():
            names[item.call_id] = item.name
            function = {"name": item.name, "arguments": arguments(item.arguments)}
            call = {"id": item.call_id, "type": "function", "function": function}
            _turn(talk).setdefault("tool_calls", []).append(call)
        case InputReasoning():
            if item.content:
                turn = _turn(talk, begins=True)
                turn["reasoning_content"] = "".join(part.text for part in item.content)
        case InputMessage(role="assistant"):
            turn = _turn(talk)
            if turn["content"] or "tool_calls" in turn:
                talk.append(turn := {"role": "assistant", "content": ""})
            turn["content"] = _text(item.content)
        case InputMessage():
            role = "system" if item.role == "developer" else item.role
            talk.append({"role": role, "content": _text(item.content)})


def _turn(talk: list[Message], *, begins: bool = False) -> Message:
    """The message of the model that is being put together."""
    if begins or not talk or talk[-1]["role"] != "assistant":
        talk.append({"role": "assistant", "content": ""})
    return talk[-1]


def _text(content: str | Texts) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, InputText) else part.refusal for part in content)


def _tools(request: ResponsesRequest) -> Toolbox:
    described = [describe(tool) for tool in request.tools or ()]
    several = request.parallel_tool_calls is not False
    wanted = request.tool_choice
    if isinstance(wanted, NamedTool):
        return choose(described, None, wanted.name, several=several)
    if not isinstance(wanted, AllowedTools):
        return choose(described, wanted, None, several=several)
    return _allowed(choose(described, wanted.mode, None, several=several), wanted.tools)


def _allowed(tools: Toolbox, allowed: Sequence[NamedTool]) -> Toolbox:
    names = {tool.name for tool in allowed}
    if unknown := names - {tool.name for tool in tools.callable}:
        raise bad_request(f"tool_choice names {min(unknown)}, which is not in tools.", param="tool_choice")
    return replace(tools, callable=tuple(tool for tool in tools.callable if tool.name in names))


def describe(tool: FunctionTool) -> dict[str, Any]:
    """A tool as chat templates know it."""
    function = tool.model_dump(exclude_none=True, exclude={"type"})
    return {"type": "function", "function": function}


def _form(request: ResponsesRequest) -> Form | None:
    form = request.text.format if request.text else None
    if isinstance(form, TextFormatSchema):
        return Form(FORM, "schema", form.json_schema)
    return any_object(FORM) if isinstance(form, ResponseFormatJSONObject) else None
