"""The answers to a chat, as one response or as the events of a stream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bento_trtllm.api.dialogue.chat import Chat
from bento_trtllm.api.dialogue.reader import AnswerReader, Part, Thought
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import chunks, responses
from bento_trtllm.api.openai.choices import ResponseHead, UsageCounter
from bento_trtllm.api.openai.extras import Extras, WantedExtras
from bento_trtllm.api.openai.scores import chat_logprobs, prompt_logprobs
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.api.tools.calls import CallDelta
from bento_trtllm.generation.fan_out import ChoiceEvent
from bento_trtllm.generation.results import Finish, TextDelta, TokenScore
from bento_trtllm.generation.source import PromptScore


class ChatStream:
    """Events of the core as chunks of a stream."""

    def __init__(
        self, chat: Chat, head: ResponseHead, model: ServedModel, n: int, *, include_usage: bool, wanted: WantedExtras
    ) -> None:
        self._chat = chat
        self._head = head
        self._model = model
        self._readers = [chat.reader() for _ in range(n)]
        self._begun = [False] * n
        self._usage = UsageCounter(len(chat.request.input_ids), n, n)
        self._include_usage = include_usage
        asked = chat.request.input_ids
        self._extras = Extras(wanted, [asked] * n, len(asked))

    async def render(self, events: AsyncGenerator[ChoiceEvent, None]) -> AsyncGenerator[list[ResponseBody], None]:
        """The chunks of a response, in the groups in which they come."""
        async with aclosing(events):
            async for i, item in events:
                group: list[ResponseBody] = []
                if not self._begun[i]:
                    self._begun[i] = True
                    group.append(self._chunk(i, chunks.Delta(role="assistant", content="")))
                    if self._chat.echo:
                        group.append(self._chunk(i, chunks.Delta(content=self._chat.echo)))
                group += self._delta(i, item) if isinstance(item, TextDelta) else self._finish(i, item)
                self._extras.add(i, item, group)
                if group:
                    yield group

    def _finish(self, i: int, finish: Finish) -> list[ResponseBody]:
        self._usage.add(i, finish)
        parts, reason = self._readers[i].finish(finish.reason)
        group: list[ResponseBody] = [self._chunk(i, chunks.delta(part)) for part in parts]
        last = chunks.ChunkChoice(
            index=i, delta=chunks.Delta(), logprobs=None, finish_reason=reason, stop_reason=finish.stop
        )
        group.append(self._of(last))
        if self._include_usage and self._usage.complete:
            group.append(self._envelope(choices=[], usage=self._usage.usage()))
        return group

    def _delta(self, i: int, item: TextDelta) -> list[ResponseBody]:
        parts = self._readers[i].feed(item.text)
        scores = self._scores(item.scores)
        if not parts:
            return [self._chunk(i, chunks.Delta(), scores)] if scores else []
        # The scores stand with the first of them.
        return [self._chunk(i, chunks.delta(d), None if j else scores) for j, d in enumerate(parts)]

    def _scores(self, scores: Sequence[TokenScore]) -> responses.ChoiceLogprobs | None:
        if self._chat.top_logprobs is None or not scores:
            return None
        return chat_logprobs(scores, self._chat.top_logprobs, self._model.tokenizer)

    def _chunk(
        self,
        i: int,
        delta: chunks.Delta,
        logprobs: responses.ChoiceLogprobs | None = None,
    ) -> chunks.ChatChunk:
        return self._of(chunks.ChunkChoice(index=i, delta=delta, logprobs=logprobs, finish_reason=None))

    def _of(self, choice: chunks.ChunkChoice) -> chunks.ChatChunk:
        # With include_usage all chunks have the field, and all but the last say null.
        return self._envelope([choice], usage=None) if self._include_usage else self._envelope([choice])

    def _envelope(
        self, choices: list[chunks.ChunkChoice], **usage: responses.CompletionUsage | None
    ) -> chunks.ChatChunk:
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
    answers = [CollectedAnswer(chat.reader()) for _ in range(n)]
    usage = UsageCounter(len(chat.request.input_ids), n, n)
    async for i, item in events:
        answers[i].add(item)
        if not isinstance(item, TextDelta):
            usage.add(i, item)
    completion = responses.ChatCompletion(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        system_fingerprint=head.system_fingerprint,
        choices=[answer.choice(i, chat, model) for i, answer in enumerate(answers)],
        usage=usage.usage(),
    )
    if chat.request.token_ids:
        completion.prompt_token_ids = chat.request.input_ids
    if chat.request.prompt_scores is not None:
        completion.prompt_logprobs = prompt_logprobs(
            chat.request.input_ids, answers[0].prompt, chat.request.prompt_scores, model.tokenizer
        )
    return completion


class CollectedAnswer:
    """One answer in the making."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader
        self._thoughts: list[str] = []
        self._text: list[str] = []
        self._calls: list[responses.ToolCall] = []
        self._scores: list[TokenScore] = []
        self._ids: list[int] = []
        self.prompt: list[PromptScore] = []
        self._reason: responses.FinishReason = "stop"
        self._stop_reason: responses.StopReason = None

    def add(self, item: TextDelta | Finish) -> None:
        """A piece, or the end."""
        self._ids += item.ids
        if isinstance(item, TextDelta):
            self._take(self._reader.feed(item.text))
            self._scores += item.scores
            self.prompt += item.prompt
            return
        parts, self._reason = self._reader.finish(item.reason)
        self._stop_reason = item.stop
        self._take(parts)

    def _take(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if isinstance(part, Thought):
                self._thoughts.append(part.text)
            elif not isinstance(part, CallDelta):
                self._text.append(part)
            elif part.id is not None:
                function = responses.FunctionCall(name=part.name or "", arguments="")
                self._calls.append(responses.ToolCall(id=part.id, type="function", function=function))
            else:
                self._calls[-1].function.arguments += part.arguments

    def choice(self, i: int, chat: Chat, model: ServedModel) -> responses.ChatChoice:
        """The choice of a response."""
        text = chat.echo + "".join(self._text)
        message = responses.ChatMessage(
            role="assistant", content=text if text or not self._calls else None, refusal=None
        )
        if self._thoughts:
            message.reasoning_content = "".join(self._thoughts)
        if self._calls:
            message.tool_calls = self._calls
        wanted = chat.top_logprobs
        logprobs = None if wanted is None else chat_logprobs(self._scores, wanted, model.tokenizer)
        choice = responses.ChatChoice(
            index=i, message=message, logprobs=logprobs, finish_reason=self._reason, stop_reason=self._stop_reason
        )
        if chat.request.token_ids:
            choice.token_ids = self._ids
        return choice
