"""POST /v1/responses: the request, as OpenAI's API defines it (openai 3.57, types/responses/response_create_params.py).

What a client sends back of earlier answers may have fields that are not known here.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from bento_trtllm.api.dialogue.fields import (
    MAX_TOOLS,
    FunctionName,
    ResponseFormatJSONObject,
    ResponseFormatText,
)
from bento_trtllm.api.refused import NotHere, because
from bento_trtllm.api.strict import LenientBody, StrictBody

NOTHING_KEPT = "nothing is kept here between requests, so send the whole conversation as input"

NothingKept = Annotated[None, because(NOTHING_KEPT)]


class InputText(LenientBody):
    """Text, of any role."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputRefusal(LenientBody):
    """A model's refusal to answer."""

    type: Literal["refusal"]
    refusal: str


Texts = Annotated[
    list[Annotated[InputText | InputRefusal, Field(discriminator="type")]],
    Field(fail_fast=True),
]


class InputMessage(LenientBody):
    """A message, of any role."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer", "assistant"]
    content: str | Texts


class InputCall(LenientBody):
    """A call that the model made; `arguments` is JSON text."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputResult(LenientBody):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Texts


class InputReasoningText(LenientBody):
    """What a model thought."""

    type: Literal["reasoning_text"]
    text: str


class InputReasoning(LenientBody):
    """What a model thought before an answer; without a content it says nothing here."""

    type: Literal["reasoning"]
    content: Annotated[list[InputReasoningText], Field(fail_fast=True)] | None = None


def _kind(item: Any) -> Any:
    if not isinstance(item, dict):
        return getattr(item, "type", None)
    return item.get("type") or ("item_reference" if "id" in item and "role" not in item else "message")


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputResult, Tag("function_call_output")]
    | Annotated[InputReasoning, Tag("reasoning")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_item",
        custom_error_message="an item is a message, function_call, function_call_output or reasoning; nothing is kept "
        "here between requests that an item_reference could lead to",
    ),
]


class FunctionTool(StrictBody):
    """A function that the model may call."""

    type: Annotated[
        Literal["function"], because("only functions can be called here: have the client leave out other tools")
    ]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(StrictBody):
    """The one function to call."""

    type: Literal["function"]
    name: str


class AllowedTools(StrictBody):
    """Those of the tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]


class TextFormatSchema(StrictBody):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    name: FunctionName
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


TextFormat = Annotated[ResponseFormatText | ResponseFormatJSONObject | TextFormatSchema, Field(discriminator="type")]


class TextConfig(StrictBody):
    """The form of the answer's text; `verbosity` changes nothing here."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(LenientBody):
    """How much to think, which models here decide by themselves."""

    effort: str | None = None
    summary: str | None = None


class ResponseStreamOptions(StrictBody):
    """Nothing is padded here."""

    include_obfuscation: bool | None = None


Includable = Literal[
    "message.output_text.logprobs",
    # Taken: there is nothing here to be included.
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class ResponsesRequest(StrictBody):
    """POST /v1/responses. The second group changes nothing here, and the last is refused by name."""

    model: str
    input: str | Annotated[list[InputItem], Field(min_length=1, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    text: TextConfig | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    include: list[Includable] | None = None

    stream_options: ResponseStreamOptions | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = None
    # Codex sends it to OpenAI.
    client_metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    max_tool_calls: int | None = Field(None, ge=1)

    store: Annotated[Literal[False] | None, because(f"{NOTHING_KEPT}, and leave store out or false")] = None
    truncation: Annotated[Literal["disabled"] | None, because("no input is cut here: leave truncation out")] = None
    background: Annotated[Literal[False] | None, because(NOTHING_KEPT)] = None
    previous_response_id: NothingKept = None
    conversation: NothingKept = None
    prompt: NothingKept = None
    context_management: NotHere = None
    moderation: NotHere = None
