"""The answer to a request of Anthropic's, whole or as the events of a stream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from bento_trtllm.api import json_body, sse
from bento_trtllm.api.anthropic import errors, objects
from bento_trtllm.api.anthropic.objects import MessageEvent
from bento_trtllm.api.anthropic.requests import MessagesRequest
from bento_trtllm.api.dialogue.chat import Chat
from bento_trtllm.api.dialogue.reader import Part, Thought
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.response_body import ResponseBody, new_id
from bento_trtllm.api.tools.calls import CallDelta
from bento_trtllm.generation.fan_out import ChoiceEvent
from bento_trtllm.generation.results import Finish, TextDelta

# Where a call's arguments, which no grammar held, are not JSON: what Anthropic tells clients to write
# (docs, fine-grained tool streaming, "Handling invalid JSON").
INVALID = "INVALID_JSON"
Kind = Literal["text", "thinking", "tool_use"]


@dataclass
class _Open:
    """A block that is being written."""

    kind: Kind
    text: str = ""
    id: str = ""
    name: str = ""

    def block(self) -> objects.Block:
        if self.kind == "text":
            return objects.TextBlock(text=self.text)
        if self.kind == "thinking":
            return objects.ThinkingBlock(thinking=self.text)
        return objects.ToolUseBlock(id=self.id, name=self.name, input=_input(self.text))

    def delta(self, text: str) -> dict[str, str]:
        names = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
        kind, field = names.get(self.kind, ("input_json_delta", "partial_json"))
        return {"type": kind, field: text}


class MessageAnswer:
    """One message in the making."""

    def __init__(self, request: MessagesRequest, chat: Chat) -> None:
        self._reader = chat.reader()
        self._open: _Open | None = None
        self._cut_short = chat.request.max_tokens < request.max_tokens
        usage = objects.MessageUsage(input_tokens=len(chat.request.input_ids), output_tokens=0)
        self.message = objects.MessageObject(id=new_id("msg_"), model=request.model, content=[], usage=usage)

    # As a form of event streams (api/event_stream.py):

    end = ""

    def frame(self, item: ResponseBody) -> str:
        """One event."""
        assert isinstance(item, MessageEvent)
        return sse.event(item.type, item.dump())

    def failure(self, error: APIError) -> str:
        """The last event of a stream that failed."""
        return sse.event("error", errors.describe(error).dump())

    async def render(self, items: AsyncGenerator[ChoiceEvent, None]) -> AsyncGenerator[list[ResponseBody], None]:
        """The events, in the groups in which they come."""
        begun = False
        async with aclosing(items):
            async for _, item in items:
                # Not before the first token: what goes wrong until then is a status of its own.
                group: list[ResponseBody] = (
                    [] if begun else [objects.MessageStart(message=self.message.model_copy(deep=True))]
                )
                begun = True
                group += self.add(item)
                if group:
                    yield group

    async def collect(self, items: AsyncGenerator[ChoiceEvent, None]) -> objects.MessageObject:
        """The whole message."""
        async for _, item in items:
            self.add(item)
        return self.message

    def add(self, item: TextDelta | Finish) -> list[MessageEvent]:
        """What a piece of the answer, or its end, changes."""
        if isinstance(item, TextDelta):
            return self._take(self._reader.feed(item.text))
        parts, reason = self._reader.finish(item.reason)
        told = [*self._take(parts), *self._close()]
        usage, cached = self.message.usage, item.usage.cached_tokens or 0
        usage.output_tokens = item.usage.completion_tokens
        usage.input_tokens, usage.cache_read_input_tokens = item.usage.prompt_tokens - cached, cached
        self.message.stop_sequence = item.stop if reason == "stop" and isinstance(item.stop, str) else None
        if reason == "length":
            self.message.stop_reason = "model_context_window_exceeded" if self._cut_short else "max_tokens"
        elif reason == "tool_calls":
            self.message.stop_reason = "tool_use"
        else:
            self.message.stop_reason = "end_turn" if item.stop is None else "stop_sequence"
        ending = objects.MessageEnd(stop_reason=self.message.stop_reason, stop_sequence=self.message.stop_sequence)
        return [*told, objects.MessageDelta(delta=ending, usage=self.message.usage), objects.MessageStop()]

    def _take(self, parts: Sequence[Part]) -> list[MessageEvent]:
        told: list[MessageEvent] = []
        for part in parts:
            if not isinstance(part, CallDelta):
                kind: Kind = "thinking" if isinstance(part, Thought) else "text"
                text = part.text if isinstance(part, Thought) else part
                if self._open is None or self._open.kind != kind:
                    told += self._begin(_Open(kind))
                told += self._add(text)
            elif part.id is None:
                told += self._add(part.arguments)
            else:
                name = part.name or ""
                told += self._begin(_Open("tool_use", id=f"toolu_{part.id.removeprefix('call_')}", name=name))
        return told

    def _begin(self, block: _Open) -> list[MessageEvent]:
        told = self._close()
        self._open = block
        return [*told, objects.BlockStart(index=len(self.message.content), content_block=block.block())]

    def _add(self, text: str) -> list[MessageEvent]:
        assert self._open
        self._open.text += text
        return [objects.BlockDelta(index=len(self.message.content), delta=self._open.delta(text))] if text else []

    def _close(self) -> list[MessageEvent]:
        if self._open is None:
            return []
        told = objects.BlockStop(index=len(self.message.content))
        self.message.content.append(self._open.block())
        self._open = None
        return [told]


def _input(text: str) -> dict[str, object]:
    if not text:
        return {}
    try:
        value = json_body.decode(text.encode())
    except ValueError:
        return {INVALID: text}
    return value if isinstance(value, dict) else {INVALID: text}
