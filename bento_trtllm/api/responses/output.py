"""The items of one response in the making, and the events that tell of them, in the order of OpenAI's API."""

from collections.abc import Sequence

from bento_trtllm.api.dialogue.reader import Part, Thought
from bento_trtllm.api.dialogue.scores import TokenLogprob
from bento_trtllm.api.response_body import new_id
from bento_trtllm.api.responses import events
from bento_trtllm.api.responses.events import StreamEvent
from bento_trtllm.api.responses.objects import (
    CallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
)
from bento_trtllm.api.tools.calls import CallDelta

Scores = Sequence[TokenLogprob]


class OutputItems:
    """Takes the parts of an answer; `items` are those that are complete."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._open: _Message | _Thoughts | _Call | None = None

    def add(self, parts: Sequence[Part], scores: Scores = ()) -> list[StreamEvent]:
        """What these parts change. The scores stand with the first text among them, or with no text at all."""
        told: list[StreamEvent] = []
        for part in parts:
            if isinstance(part, CallDelta):
                told += self._call(part)
            elif isinstance(part, Thought):
                told += self._think(part.text)
            else:
                told += self._say(part, scores)
                scores = ()
        return told + self._say("", scores) if scores else told

    def finish(self, status: Status) -> list[StreamEvent]:
        """No more parts come. An answer that says nothing is an empty message."""
        told = [] if self._open or self.items else self._say("", ())
        return told + self._close(status)

    def _say(self, text: str, scores: Scores) -> list[StreamEvent]:
        told: list[StreamEvent] = []
        if not isinstance(self._open, _Message):
            told = self._close("completed")
            self._open = _Message(len(self.items))
            told += self._open.opened()
        return told + self._open.add(text, scores)

    def _think(self, text: str) -> list[StreamEvent]:
        told: list[StreamEvent] = []
        if not isinstance(self._open, _Thoughts):
            told = self._close("completed")
            self._open = _Thoughts(len(self.items))
            told += self._open.opened()
        return told + self._open.add(text)

    def _call(self, part: CallDelta) -> list[StreamEvent]:
        if part.id is None:
            assert isinstance(self._open, _Call)
            return self._open.add(part.arguments)
        told = self._close("completed")
        self._open = _Call(len(self.items), part.id, part.name or "")
        return told + self._open.opened()

    def _close(self, status: Status) -> list[StreamEvent]:
        if self._open is None:
            return []
        told = self._open.closed()
        item = self._open.item(status)
        told.append(events.ItemEvent(type="response.output_item.done", output_index=len(self.items), item=item))
        self.items.append(item)
        self._open = None
        return told


def _added(at: int, item: Item) -> StreamEvent:
    return events.ItemEvent(type="response.output_item.added", output_index=at, item=item)


class _Message:
    def __init__(self, at: int) -> None:
        self._at = at
        self._id = new_id("msg_")
        self._text = ""
        self._scores: list[TokenLogprob] = []

    def item(self, status: Status) -> Item:
        return MessageItem(id=self._id, status=status, content=[self._part()] if status != "in_progress" else [])

    def opened(self) -> list[StreamEvent]:
        return [_added(self._at, self.item("in_progress")), self._tell("response.content_part.added")]

    def add(self, text: str, scores: Scores) -> list[StreamEvent]:
        self._text += text
        self._scores += scores
        if not text and not scores:
            return []
        return [
            events.OutputTextDelta(
                type="response.output_text.delta",
                item_id=self._id,
                output_index=self._at,
                delta=text,
                logprobs=list(scores),
            )
        ]

    def closed(self) -> list[StreamEvent]:
        done = events.OutputTextDone(
            type="response.output_text.done",
            item_id=self._id,
            output_index=self._at,
            text=self._text,
            logprobs=self._scores,
        )
        return [done, self._tell("response.content_part.done")]

    def _part(self) -> OutputText:
        return OutputText(text=self._text, logprobs=self._scores)

    def _tell(self, kind: str) -> StreamEvent:
        return events.PartEvent(type=kind, item_id=self._id, output_index=self._at, part=self._part())


class _Thoughts:
    def __init__(self, at: int) -> None:
        self._at = at
        self._id = new_id("rs_")
        self._text = ""

    def item(self, status: Status) -> Item:
        content = [ReasoningText(text=self._text)] if status != "in_progress" else []
        return ReasoningItem(id=self._id, status=status, content=content)

    def opened(self) -> list[StreamEvent]:
        return [_added(self._at, self.item("in_progress")), self._tell("response.content_part.added")]

    def add(self, text: str) -> list[StreamEvent]:
        self._text += text
        return [
            events.ReasoningDelta(
                type="response.reasoning_text.delta", item_id=self._id, output_index=self._at, delta=text
            )
        ]

    def closed(self) -> list[StreamEvent]:
        done = events.ReasoningDone(
            type="response.reasoning_text.done", item_id=self._id, output_index=self._at, text=self._text
        )
        return [done, self._tell("response.content_part.done")]

    def _tell(self, kind: str) -> StreamEvent:
        part = ReasoningText(text=self._text)
        return events.PartEvent(type=kind, item_id=self._id, output_index=self._at, part=part)


class _Call:
    def __init__(self, at: int, call_id: str, name: str) -> None:
        self._at = at
        self._id = new_id("fc_")
        self._call_id = call_id
        self._name = name
        self._arguments = ""

    def item(self, status: Status) -> Item:
        return CallItem(id=self._id, status=status, call_id=self._call_id, name=self._name, arguments=self._arguments)

    def opened(self) -> list[StreamEvent]:
        return [_added(self._at, self.item("in_progress"))]

    def add(self, arguments: str) -> list[StreamEvent]:
        self._arguments += arguments
        return [
            events.ArgumentsDelta(
                type="response.function_call_arguments.delta",
                item_id=self._id,
                output_index=self._at,
                delta=arguments,
            )
        ]

    def closed(self) -> list[StreamEvent]:
        return [
            events.ArgumentsDone(
                type="response.function_call_arguments.done",
                item_id=self._id,
                output_index=self._at,
                name=self._name,
                arguments=self._arguments,
            )
        ]
