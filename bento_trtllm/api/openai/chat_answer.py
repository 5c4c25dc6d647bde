"""The answers to a chat, as one response or as the events of a stream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import chunks, responses
from bento_trtllm.api.openai.chat import Chat
from bento_trtllm.api.openai.choices import ResponseHead, UsageCounter
from bento_trtllm.api.openai.scores import chat_logprobs
from bento_trtllm.api.openai.tools import CallDelta, Delta, ToolCallParser
from bento_trtllm.generation.fan_out import ChoiceEvent
from bento_trtllm.generation.results import Finish, TextDelta, TokenScore


class Streamed:
    """Events of the core as chunks of a stream."""

    def __init__(self, chat: Chat, head: ResponseHead, model: ServedModel, n: int, *, include_usage: bool) -> None:
        self._chat = chat
        self._head = head
        self._model = model
        self._parsers = [chat.parser() for _ in range(n)]
        self._begun = [False] * n
        self._usage = UsageCounter(len(chat.request.input_ids), n)
        self._include_usage = include_usage

    async def render(self, events: AsyncGenerator[ChoiceEvent, None]) -> AsyncGenerator[list[responses.Response], None]:
        """The chunks of a response, in the groups in which they come."""
        async with aclosing(events):
            async for i, item in events:
                group: list[responses.Response] = []
                if not self._begun[i]:
                    self._begun[i] = True
                    group.append(self._chunk(i, chunks.Delta(role="assistant", content="")))
                group += self._delta(i, item) if isinstance(item, TextDelta) else self._finish(i, item)
                if group:
                    yield group

    def _finish(self, i: int, finish: Finish) -> list[responses.Response]:
        self._usage.add(finish)
        parser = self._parsers[i]
        deltas = parser.finish() if parser else ()
        reason = "tool_calls" if parser and parser.calls else finish.reason
        group: list[responses.Response] = [self._chunk(i, chunks.delta(delta)) for delta in deltas]
        group.append(self._chunk(i, chunks.Delta(), finish_reason=reason))
        if self._include_usage and self._usage.complete:
            group.append(self._envelope(choices=[], usage=self._usage.usage()))
        return group

    def _delta(self, i: int, item: TextDelta) -> list[responses.Response]:
        parser = self._parsers[i]
        deltas: list[Delta] = parser.feed(item.text) if parser else [item.text]
        scores = self._scores(item.scores)
        if not deltas:
            return [self._chunk(i, chunks.Delta(), scores)] if scores else []
        # The scores stand with the first of them.
        return [self._chunk(i, chunks.delta(d), None if j else scores) for j, d in enumerate(deltas)]

    def _scores(self, scores: Sequence[TokenScore]) -> responses.ChoiceLogprobs | None:
        if self._chat.top_logprobs is None or not scores:
            return None
        return chat_logprobs(scores, self._chat.top_logprobs, self._model.tokenizer)

    def _chunk(
        self,
        i: int,
        delta: chunks.Delta,
        logprobs: responses.ChoiceLogprobs | None = None,
        finish_reason: responses.FinishReason | None = None,
    ) -> chunks.ChatChunk:
        choice_ = chunks.ChunkChoice(index=i, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        # With include_usage all chunks have the field, and all but the last say null.
        return self._envelope([choice_], usage=None) if self._include_usage else self._envelope([choice_])

    def _envelope(self, choices: list[chunks.ChunkChoice], **usage: responses.Usage | None) -> chunks.ChatChunk:
        head = self._head
        return chunks.ChatChunk(
            id=head.id,
            object="chat.completion.chunk",
            created=head.created,
            model=head.model,
            system_fingerprint=head.system_fingerprint,
            choices=choices,
            **usage,
        )


async def collect(
    chat: Chat, head: ResponseHead, model: ServedModel, n: int, events: AsyncGenerator[ChoiceEvent, None]
) -> responses.ChatCompletion:
    """The whole response at once."""
    answers = [Collected(chat.parser()) for _ in range(n)]
    usage = UsageCounter(len(chat.request.input_ids), n)
    async for i, item in events:
        answers[i].add(item)
        if not isinstance(item, TextDelta):
            usage.add(item)
    return responses.ChatCompletion(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        system_fingerprint=head.system_fingerprint,
        choices=[answer.choice(i, chat, model) for i, answer in enumerate(answers)],
        usage=usage.usage(),
    )


class Collected:
    """One answer in the making."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._parser = parser
        self._text: list[str] = []
        self._calls: list[responses.ToolCall] = []
        self._scores: list[TokenScore] = []
        self._reason: responses.FinishReason = "stop"

    def add(self, item: TextDelta | Finish) -> None:
        """A piece, or the end."""
        if isinstance(item, TextDelta):
            self._take(self._parser.feed(item.text) if self._parser else [item.text])
            self._scores += item.scores
            return
        self._take(self._parser.finish() if self._parser else [])
        self._reason = "tool_calls" if self._calls else item.reason

    def _take(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            if not isinstance(delta, CallDelta):
                self._text.append(delta)
            elif delta.id is not None:
                function = responses.FunctionCall(name=delta.name or "", arguments="")
                self._calls.append(responses.ToolCall(id=delta.id, type="function", function=function))
            else:
                self._calls[-1].function.arguments += delta.arguments

    def choice(self, i: int, chat: Chat, model: ServedModel) -> responses.ChatChoice:
        """The choice of a response."""
        text = "".join(self._text)
        message = responses.ChatMessage(
            role="assistant", content=text if text or not self._calls else None, refusal=None
        )
        if self._calls:
            message.tool_calls = self._calls
        wanted = chat.top_logprobs
        logprobs = None if wanted is None else chat_logprobs(self._scores, wanted, model.tokenizer)
        return responses.ChatChoice(index=i, message=message, logprobs=logprobs, finish_reason=self._reason)
