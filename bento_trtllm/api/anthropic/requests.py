"""Requests as Anthropic's API defines them (anthropic 2.14, types/message_create_params.py).

What a client sends back of earlier answers may have fields that are not known here.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from bento_trtllm.api.dialogue.fields import MAX_TOOLS
from bento_trtllm.api.refused import NotHere, because
from bento_trtllm.api.strict import LenientBody, StrictBody

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
CacheControl = dict[str, Any]
"""Taken, and changes nothing: the engine decides what it keeps of prompts."""


class TextBlockParam(LenientBody):
    """Text."""

    type: Literal["text"]
    text: str


class ToolUseBlockParam(LenientBody):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlockParam(LenientBody):
    """What a tool gave back, or why it could not."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Annotated[list[TextBlockParam], Field(fail_fast=True)] | None = None
    is_error: bool | None = None


class ThinkingBlockParam(LenientBody):
    """What the model thought before it answered."""

    type: Literal["thinking"]
    thinking: str


class RedactedBlockParam(LenientBody):
    """What another model thought, which nobody else can read: it is left out."""

    type: Literal["redacted_thinking"]


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else getattr(block, "type", None)


BlockParam = Annotated[
    Annotated[TextBlockParam, Tag("text")]
    | Annotated[ToolUseBlockParam, Tag("tool_use")]
    | Annotated[ToolResultBlockParam, Tag("tool_result")]
    | Annotated[ThinkingBlockParam, Tag("thinking")]
    | Annotated[RedactedBlockParam, Tag("redacted_thinking")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_block",
        custom_error_message="a block is text, tool_use, tool_result or thinking: this model reads nothing else",
    ),
]


class Message(StrictBody):
    """A turn, or a part of one."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[BlockParam], Field(fail_fast=True)]


class ToolParam(StrictBody):
    """A tool that the client runs. The last group changes nothing here."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    type: Annotated[Literal["custom"] | None, because("only tools that the client runs (custom) can be called")] = None

    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, Any]] | None = None


class ToolChoiceAuto(StrictBody):
    """The model decides."""

    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None


class ToolChoiceAny(StrictBody):
    """One of them must be called."""

    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None


class ToolChoiceTool(StrictBody):
    """This one must be called."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class ToolChoiceNone(StrictBody):
    """None may be called."""

    type: Literal["none"]


ToolChoice = Annotated[ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone, Field(discriminator="type")]


class OutputFormat(StrictBody):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(StrictBody):
    """What the answer is to be like; `effort` changes nothing here."""

    format: OutputFormat | None = None
    effort: str | None = None


class Thinking(LenientBody):
    """Whether to think before the answer, where the model's template knows of that."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class ContextEdit(LenientBody):
    """Thoughts of earlier turns are left out; templates do that anyway."""

    type: Annotated[str, StringConstraints(pattern=r"^clear_thinking_")]


class ContextManagement(StrictBody):
    """How earlier turns are to be cut."""

    edits: list[ContextEdit] | None = None


class Prompt(StrictBody):
    """What there is before an answer. The last group changes nothing here."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    system: str | Annotated[list[TextBlockParam], Field(fail_fast=True)] | None = None
    tools: Annotated[list[ToolParam], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Annotated[list[Any] | None, Field(max_length=0), because("this server calls no others")] = None

    cache_control: CacheControl | None = None
    speed: Literal["standard"] | None = None


class CountRequest(Prompt):
    """POST /v1/messages/count_tokens."""


class MessagesRequest(Prompt):
    """POST /v1/messages. The last group changes nothing here."""

    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stop_sequences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    container: NotHere = None
    diagnostics: NotHere = None

    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
