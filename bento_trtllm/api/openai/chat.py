"""POST /v1/chat/completions: what is asked, in the words that all conversations have."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bento_trtllm.api.dialogue.chat import Chat, understand
from bento_trtllm.api.dialogue.conversation import Conversation, Form, Names, Toolbox, any_object, arguments, choose
from bento_trtllm.api.dialogue.fields import ResponseFormatJSONObject, ResponseFormatText
from bento_trtllm.api.dialogue.sampling import require
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import functions, guides, template_fields
from bento_trtllm.api.openai.extras import WantedExtras
from bento_trtllm.api.openai.requests import (
    AssistantMessage,
    ChatRequest,
    CommonFields,
    Content,
    FunctionMessage,
    Message,
    NamedToolChoice,
    ResponseFormatJSONSchema,
    ResponseFormatStructuralTag,
)
from bento_trtllm.generation.parameters import GenerationRequest


def read(request: ChatRequest, model: ServedModel) -> Chat:
    """Understand a request. Raises APIError, and CheckpointError where the template refuses the messages."""
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs: true.", param="top_logprobs")
    if request.max_tokens and request.max_completion_tokens:
        raise bad_request("Give max_tokens or max_completion_tokens, not both.", param="max_tokens")
    messages = read_messages(request.messages)
    continued, variables = template_fields.variables(request, messages)
    conversation = Conversation(
        messages,
        _tools(request),
        _form(request),
        request.max_completion_tokens or request.max_tokens,
        request.n or 1,
        (request.top_logprobs or 0) if request.logprobs else None,
        continued,
        variables,
        WantedExtras.of(request).any,
    )
    field = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
    chat = understand(conversation, request, model, Names(max_tokens=field))
    if request.prompt_logprobs is not None:
        chat = replace(chat, request=scored(request, chat.request, model))
    # As vLLM has it: the last message, where it is one of the same role.
    echoed = request.echo and messages[-1]["role"] == "assistant"
    return replace(chat, echo=messages[-1]["content"]) if echoed else chat


def scored(request: CommonFields, asked: GenerationRequest, model: ServedModel) -> GenerationRequest:
    """With the scores of the prompt. Raises APIError."""
    require(model.manifest, "num_prompt_log_probs", "prompt_logprobs")
    if request.stream:
        raise bad_request("prompt_logprobs does not go with stream.", param="prompt_logprobs")
    return replace(asked, prompt_scores=request.prompt_logprobs)


def has_form(request: ChatRequest) -> bool:
    """Whether the answer's form is prescribed, which is more to read than text of that length."""
    text = isinstance(request.response_format, ResponseFormatText | None)
    return guides.has_form(request) or not text or bool(request.tools or request.functions)


def read_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates know them."""
    return [_message(message) for message in messages]


def _message(message: Message) -> dict[str, Any]:
    """A message as chat templates know it."""
    if isinstance(message, FunctionMessage):
        return functions.result(message)
    fields = message.model_dump(exclude_none=True, exclude={"refusal", "content", "cache_control", "function_call"})
    if fields["role"] == "developer":
        fields["role"] = "system"
    # Parts are put together before control tokens are looked for: two could make one between them.
    fields["content"] = _text(message.content)
    if isinstance(message, AssistantMessage) and message.function_call and not message.tool_calls:
        fields["tool_calls"] = functions.called(message)
    if fields.get("tool_calls"):
        for call in fields["tool_calls"]:
            call["function"]["arguments"] = arguments(call["function"]["arguments"])
    else:
        # Templates ask whether it is there.
        fields.pop("tool_calls", None)
    return fields


def _text(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _tools(request: ChatRequest) -> Toolbox:
    """The functions that the answer may call."""
    if request.functions is not None or request.function_call is not None:
        return functions.toolbox(request)
    wanted = request.tool_choice
    described = [tool.model_dump(exclude_none=True, exclude={"cache_control"}) for tool in request.tools or ()]
    several = request.parallel_tool_calls is not False
    if isinstance(wanted, NamedToolChoice):
        return choose(described, None, wanted.function.name, several=several)
    return choose(described, wanted, None, several=several)


def _form(request: ChatRequest) -> Form | None:
    """What the answer must be."""
    guided = guides.read(request)
    form = request.response_format
    if guided and not isinstance(form, ResponseFormatText | None):
        raise bad_request(f"Give response_format or {guided.name}, not both.", param=guided.name)
    if isinstance(form, ResponseFormatJSONSchema):
        return Form("response_format", "schema", form.json_schema.json_schema)
    if isinstance(form, ResponseFormatStructuralTag):
        return Form("response_format", "structural_tag", form.model_dump(exclude_none=True))
    return any_object("response_format") if isinstance(form, ResponseFormatJSONObject) else guided
