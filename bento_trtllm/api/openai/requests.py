"""Requests as OpenAI's API defines them. Types are strict, and a field that is not known is refused by name."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bento_trtllm.api.dialogue.fields import (
    MAX_TOOLS,
    FunctionName,
    ResponseFormatJSONObject,
    ResponseFormatText,
    SamplingFields,
)
from bento_trtllm.api.openai.guides import GuideFields
from bento_trtllm.api.openai.inert import InertChat, InertSampling
from bento_trtllm.api.openai.template_fields import TemplateFields
from bento_trtllm.api.strict import LenientBody, StrictBody
from bento_trtllm.triton_models.shared.parameters import MOST_SCORES

MAX_CHOICES = 128
MAX_PROMPTS = 128


class Cached(StrictBody):
    """What Anthropic's clients mark as worth keeping, also where they speak OpenAI's protocol. It changes nothing."""

    cache_control: dict[str, Any] | None = None


class TextPart(Cached):
    """The only kind of part that a text model reads."""

    type: Literal["text"]
    text: str


# Of a list, only the first fault is looked for: there may be as many as items.
Content = str | Annotated[list[TextPart], Field(fail_fast=True)]


class SystemMessage(Cached):
    """Instructions; `developer` is OpenAI's newer name for the role."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Cached):
    """A message of the user."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class CalledFunction(LenientBody):
    """A function's name, and its arguments as the JSON text that the model wrote."""

    name: str
    arguments: str


class MessageToolCall(LenientBody):
    """A call in an assistant's message."""

    id: str
    type: Literal["function"] | None = "function"
    function: CalledFunction


class AssistantMessage(LenientBody):
    """A message of the model, or its calls of tools."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[MessageToolCall], Field(fail_fast=True)] | None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None


class ToolMessage(Cached):
    """The result of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(StrictBody):
    """The result of a call, in the older form of tools."""

    role: Literal["function"]
    name: str
    content: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


class FunctionDefinition(StrictBody):
    """A function that the model may call. `parameters` is a JSON Schema; without it there are none."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Cached):
    """A tool; all are functions."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(StrictBody):
    """The function of a tool_choice."""

    name: str


class NamedToolChoice(StrictBody):
    """The one function to call."""

    type: Literal["function"]
    function: NamedFunction


class JSONSchema(StrictBody):
    """What an answer must satisfy."""

    name: FunctionName
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormatJSONSchema(StrictBody):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


class ResponseFormatStructuralTag(StrictBody):
    """vLLM's: a format of xgrammar's, or in the older form structures and triggers."""

    type: Literal["structural_tag"]
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


ResponseFormat = Annotated[
    ResponseFormatText | ResponseFormatJSONObject | ResponseFormatJSONSchema | ResponseFormatStructuralTag,
    Field(discriminator="type"),
]


class StreamOptions(StrictBody):
    """What a stream has besides text. `include_obfuscation` changes nothing here: nothing is padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class CommonFields(SamplingFields, GuideFields, InertSampling):
    """Fields that both requests have; from `return_token_ids` on, vLLM's."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    return_token_ids: bool | None = None
    prompt_logprobs: int | None = Field(None, ge=0, le=MOST_SCORES)


class ChatRequest(CommonFields, TemplateFields, InertChat):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_SCORES)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    echo: bool | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None


Tokens = Annotated[list[int], Field(min_length=1, fail_fast=True)]


class CompletionRequest(CommonFields):
    """POST /v1/completions. A prompt is text or token ids; several make several choices."""

    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    max_tokens: int | None = Field(None, ge=0)
    logprobs: int | None = Field(None, ge=0, le=MOST_SCORES)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
