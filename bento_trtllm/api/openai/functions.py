"""OpenAI's older form of tools, `functions` and `function_call`: read as tools, and answered as it was asked."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal, cast

from bento_trtllm.api.dialogue.conversation import Toolbox, choose
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.openai import chunks, responses
from bento_trtllm.api.openai.requests import AssistantMessage, ChatRequest, FunctionMessage, NamedFunction
from bento_trtllm.api.response_body import ResponseBody

# Calls had no ids: a function was called, and the next message had what it gave back.
CALL_ID = "call_0"


def toolbox(request: ChatRequest) -> Toolbox:
    """The functions that the answer may call, one of them. Raises APIError."""
    if request.tools:
        raise bad_request("Give tools or functions, not both.", param="functions")
    described = [
        {"type": "function", "function": function.model_dump(exclude_none=True)} for function in request.functions or ()
    ]
    wanted = request.function_call
    if wanted is not None and not described:
        raise bad_request("function_call needs functions.", param="function_call")
    if isinstance(wanted, NamedFunction):
        return choose(described, None, wanted.name, several=False)
    return choose(described, wanted, None, several=False)


def called(message: AssistantMessage) -> list[dict[str, Any]]:
    """The call of a message, as chat templates know calls, with its arguments as text."""
    assert message.function_call
    return [{"id": CALL_ID, "type": "function", "function": message.function_call.model_dump()}]


def result(message: FunctionMessage) -> dict[str, Any]:
    """What a function gave back, as chat templates know it."""
    return {"role": "tool", "name": message.name, "tool_call_id": CALL_ID, "content": message.content or ""}


def as_asked(completion: responses.ChatCompletion) -> responses.ChatCompletion:
    """A response with `function_call` in place of `tool_calls`."""
    for choice in completion.choices:
        if choice.message.tool_calls:
            choice.message.function_call = choice.message.tool_calls[0].function
            choice.message.tool_calls = None
            choice.message.model_fields_set.discard("tool_calls")
        choice.finish_reason = cast("responses.FinishReason", _reason(choice.finish_reason))
    return completion


async def stream_as_asked(
    groups: AsyncGenerator[list[ResponseBody], None],
) -> AsyncGenerator[list[ResponseBody], None]:
    """The same for the chunks of a stream."""
    async with aclosing(groups):
        async for group in groups:
            for chunk in group:
                if isinstance(chunk, chunks.ChatChunk):
                    for choice in chunk.choices:
                        _convert(choice)
            yield group


def _convert(choice: chunks.ChunkChoice) -> None:
    delta = choice.delta
    if delta.tool_calls:
        delta.function_call = delta.tool_calls[0].function
        delta.tool_calls = None
        delta.model_fields_set.discard("tool_calls")
    choice.finish_reason = cast("responses.FinishReason | None", _reason(choice.finish_reason))


def _reason(reason: str | None) -> str | None:
    called_: Literal["function_call"] = "function_call"
    return called_ if reason == "tool_calls" else reason
