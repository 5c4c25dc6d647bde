"""Messages and the events of their streams, as Anthropic's API defines them."""

from typing import Any, Literal

from bento_trtllm.api.response_body import ResponseBody

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class Said(ResponseBody):
    """The base of all; every field is written, null too."""

    def dump(self) -> str:
        """As JSON on one line."""
        return self.model_dump_json()


class TextBlock(Said):
    """Text of an answer."""

    type: Literal["text"] = "text"
    text: str
    citations: None = None


class ThinkingBlock(Said):
    """Text that was thought. Nothing is signed here."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str = ""


class ToolUseBlock(Said):
    """A call of a tool."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class MessageUsage(Said):
    """Tokens, counted. Those that the engine had computed before, where it tells, are not among `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class MessageObject(Said):
    """The message, or what there is of it."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class TokenCount(Said):
    """The response of /v1/messages/count_tokens."""

    input_tokens: int


class ErrorDetail(Said):
    """What went wrong, for programs and for people."""

    type: str
    message: str


class ErrorObject(Said):
    """The body of every response that is not 200."""

    type: Literal["error"] = "error"
    error: ErrorDetail
    request_id: str | None = None


class MessageEvent(Said):
    """The base of all events."""

    type: str


class MessageStart(MessageEvent):
    """message_start."""

    type: Literal["message_start"] = "message_start"
    message: MessageObject


class BlockStart(MessageEvent):
    """content_block_start."""

    type: Literal["content_block_start"] = "content_block_start"
    index: int
    content_block: Block


class BlockDelta(MessageEvent):
    """content_block_delta: a text_delta, a thinking_delta or an input_json_delta."""

    type: Literal["content_block_delta"] = "content_block_delta"
    index: int
    delta: dict[str, str]


class BlockStop(MessageEvent):
    """content_block_stop."""

    type: Literal["content_block_stop"] = "content_block_stop"
    index: int


class MessageEnd(Said):
    """How a message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(MessageEvent):
    """message_delta."""

    type: Literal["message_delta"] = "message_delta"
    delta: MessageEnd
    usage: MessageUsage


class MessageStop(MessageEvent):
    """message_stop."""

    type: Literal["message_stop"] = "message_stop"
