"""The events of a chat's stream."""

from typing import Literal

from bento_trtllm.api.dialogue.reader import Part, Thought
from bento_trtllm.api.openai.responses import ChoiceLogprobs, CompletionUsage, FinishReason, StopReason
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.api.tools.calls import CallDelta


class FunctionDelta(ResponseBody):
    """A piece of a call's function: its name, or more of the JSON text of its arguments."""

    name: str | None = None
    arguments: str = ""


class ToolCallDelta(ResponseBody):
    """A piece of a call. The first has all fields, the others `index` and `function`."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(ResponseBody):
    """What an event adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None


class ChunkChoice(ResponseBody):
    """What an event adds to one answer."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: StopReason = None
    token_ids: list[int] | None = None


class ChatChunk(ResponseBody):
    """One event."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None
    prompt_token_ids: list[int] | None = None


def delta(part: Part) -> Delta:
    """What the parser of an answer found, as the delta of an event."""
    if isinstance(part, Thought):
        return Delta(reasoning_content=part.text)
    if not isinstance(part, CallDelta):
        return Delta(content=part)
    if part.id is None:
        function = FunctionDelta(arguments=part.arguments)
        return Delta(tool_calls=[ToolCallDelta(index=part.index, function=function)])
    function = FunctionDelta(name=part.name, arguments="")
    return Delta(tool_calls=[ToolCallDelta(index=part.index, id=part.id, type="function", function=function)])
