"""The events of a stream of the Responses API."""

from typing import Any

from bento_trtllm.api import sse
from bento_trtllm.api.dialogue.scores import TokenLogprob
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.api.responses.objects import Item, OutputText, ReasoningText, ResponseObject


class StreamEvent(ResponseBody):
    """The base of all. Numbers count up from 0, so that nothing can be missed."""

    type: str
    sequence_number: int = 0

    def dump(self) -> str:
        """All fields of it, and of what is in it."""
        return self.model_dump_json()


class ResponseEvent(StreamEvent):
    """response.created, .in_progress, .completed, .incomplete, .failed."""

    response: ResponseObject


class ItemEvent(StreamEvent):
    """response.output_item.added, .done."""

    output_index: int
    item: Item


class PartEvent(StreamEvent):
    """response.content_part.added, .done."""

    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText | ReasoningText


class OutputTextDelta(StreamEvent):
    """response.output_text.delta."""

    item_id: str
    output_index: int
    content_index: int = 0
    delta: str
    logprobs: list[TokenLogprob]


class OutputTextDone(StreamEvent):
    """response.output_text.done."""

    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[TokenLogprob]


class ReasoningDelta(StreamEvent):
    """response.reasoning_text.delta."""

    item_id: str
    output_index: int
    content_index: int = 0
    delta: str


class ReasoningDone(StreamEvent):
    """response.reasoning_text.done."""

    item_id: str
    output_index: int
    content_index: int = 0
    text: str


class ArgumentsDelta(StreamEvent):
    """response.function_call_arguments.delta."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(StreamEvent):
    """response.function_call_arguments.done."""

    item_id: str
    output_index: int
    name: str
    arguments: str


class ErrorEvent(StreamEvent):
    """error."""

    code: str | None
    message: str
    param: str | None


def late_error(status: int, error: dict[str, Any]) -> str:
    """An error of a stream whose response began before it."""
    told = ErrorEvent(type="error", code=error["code"], message=error["message"], param=error["param"])
    return sse.event(told.type, told.dump())
