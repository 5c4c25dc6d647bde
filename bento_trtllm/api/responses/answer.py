"""The answer to a request of the Responses API, whole or as the events of a stream."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

from bento_trtllm.api import sse
from bento_trtllm.api.dialogue.chat import Chat
from bento_trtllm.api.dialogue.scores import TokenLogprob, token_logprobs
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.response_body import ResponseBody, new_id
from bento_trtllm.api.responses import events, objects
from bento_trtllm.api.responses.events import StreamEvent
from bento_trtllm.api.responses.output import OutputItems
from bento_trtllm.api.responses.requests import ResponsesRequest
from bento_trtllm.generation.fan_out import ChoiceEvent
from bento_trtllm.generation.results import Finish, TextDelta, TokenScore

Status = Literal["created", "in_progress", "completed", "incomplete", "failed"]


class ResponseAnswer:
    """One response in the making."""

    def __init__(self, request: ResponsesRequest, chat: Chat, model: ServedModel) -> None:
        self._chat = chat
        self._model = model
        self._reader = chat.reader()
        self._output = OutputItems()
        self._sequence = 0
        self.response = _begin(request)

    # As a form of event streams (api/event_stream.py):

    end = ""

    def frame(self, item: ResponseBody) -> str:
        """One event."""
        assert isinstance(item, StreamEvent)
        item.sequence_number = self._sequence
        self._sequence += 1
        return sse.event(item.type, item.dump())

    def failure(self, error: APIError) -> str:
        """The last events of a stream that failed."""
        self.response.error = objects.ResponseError(code="server_error", message=error.message)
        told = events.ErrorEvent(type="error", code=error.name, message=error.message, param=error.param)
        return self.frame(told) + self.frame(self._tell("failed"))

    async def render(self, items: AsyncGenerator[ChoiceEvent, None]) -> AsyncGenerator[list[ResponseBody], None]:
        """The events, in the groups in which they come."""
        begun = False
        async with aclosing(items):
            async for _, item in items:
                # Not before the first token: what goes wrong until then is a status of its own.
                group: list[ResponseBody] = [] if begun else [self._tell("created"), self._tell("in_progress")]
                begun = True
                group += self.add(item)
                if group:
                    yield group

    async def collect(self, items: AsyncGenerator[ChoiceEvent, None]) -> objects.ResponseObject:
        """The whole response."""
        async for _, item in items:
            self.add(item)
        return self.response

    def add(self, item: TextDelta | Finish) -> list[StreamEvent]:
        """What a piece of the answer, or its end, changes."""
        if isinstance(item, TextDelta):
            return self._output.add(self._reader.feed(item.text), self._scores(item.scores))
        parts, reason = self._reader.finish(item.reason)
        told = self._output.add(parts)
        cut = reason == "length"
        told += self._output.finish("incomplete" if cut else "completed")
        self.response.output = self._output.items
        self.response.usage = _usage(item, self._thought_tokens())
        self.response.completed_at = None if cut else int(time.time())
        if cut:
            self.response.incomplete_details = objects.IncompleteDetails(reason="max_output_tokens")
        return [*told, self._tell("incomplete" if cut else "completed")]

    def _thought_tokens(self) -> int:
        """As the tokenizer encodes the thoughts: the tokens that they came in were not kept."""
        items = (item for item in self._output.items if isinstance(item, objects.ReasoningItem))
        return sum(self._model.tokenizer.count(part.text) for item in items for part in item.content)

    def _tell(self, status: Status) -> StreamEvent:
        self.response.status = "in_progress" if status == "created" else status
        return events.ResponseEvent(type=f"response.{status}", response=self.response.model_copy())

    def _scores(self, scores: Sequence[TokenScore]) -> list[TokenLogprob]:
        if self._chat.top_logprobs is None or not scores:
            return []
        return token_logprobs(scores, self._chat.top_logprobs, self._model.tokenizer)


def _begin(request: ResponsesRequest) -> objects.ResponseObject:
    """The response before anything of it exists: what was asked."""
    reasoning = request.reasoning
    text = request.text.model_dump(by_alias=True, exclude_none=True) if request.text else {}
    tools = [{"parameters": None, "strict": None, **tool.model_dump(exclude_none=True)} for tool in request.tools or ()]
    choice = request.tool_choice or "auto"
    return objects.ResponseObject(
        id=new_id("resp_"),
        created_at=int(time.time()),
        status="in_progress",
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        model=request.model,
        output=[],
        parallel_tool_calls=request.parallel_tool_calls is not False,
        prompt_cache_key=request.prompt_cache_key,
        reasoning={
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        safety_identifier=request.safety_identifier,
        temperature=request.temperature,
        text={"format": {"type": "text"}, **text},
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=tools,
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
        user=request.user,
    )


def _usage(finish: Finish, thoughts: int) -> objects.ResponseUsage:
    asked, made = finish.usage.prompt_tokens, finish.usage.completion_tokens
    return objects.ResponseUsage(
        input_tokens=asked,
        input_tokens_details=objects.InputTokensDetails(cached_tokens=finish.usage.cached_tokens or 0),
        output_tokens=made,
        output_tokens_details=objects.OutputTokensDetails(reasoning_tokens=min(thoughts, made)),
        total_tokens=asked + made,
    )
