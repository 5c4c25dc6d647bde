"""What vLLM's clients may ask of a stream beside its text: the ids of its tokens, and how many there are so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from bento_trtllm.api.openai import responses
from bento_trtllm.api.openai.chunks import ChatChunk
from bento_trtllm.api.openai.requests import CommonFields
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.generation.results import Finish, TextDelta


@dataclass(frozen=True)
class WantedExtras:
    """What was asked for. Counts so far go with include_usage only, as vLLM has it."""

    token_ids: bool
    counts: bool

    @classmethod
    def of(cls, request: CommonFields) -> "WantedExtras":
        """By a request."""
        options = request.stream_options
        counts = bool(request.stream and options and options.include_usage and options.continuous_usage_stats)
        return cls(bool(request.return_token_ids), counts)

    @property
    def any(self) -> bool:
        """Whether the ids of tokens must be known."""
        return self.token_ids or self.counts


class Extras:
    """Adds it to the chunks of one stream. `prompts` are the token ids of each answer's prompt."""

    def __init__(self, wanted: WantedExtras, prompts: Sequence[list[int]], prompt_tokens: int) -> None:
        self._wanted = wanted
        self._prompts = prompts
        self._prompt_tokens = prompt_tokens
        self._made = [0] * len(prompts)
        self._waiting: list[list[int]] = [[] for _ in prompts]
        self._begun = [False] * len(prompts)

    def add(self, i: int, item: TextDelta | Finish, group: Sequence[ResponseBody]) -> None:
        """To the chunks that an item of answer `i` has become; without any, it goes with the next."""
        if not self._wanted.any:
            return
        self._waiting[i] += item.ids
        self._made[i] = item.usage.completion_tokens if isinstance(item, Finish) else self._made[i] + len(item.ids)
        chunks = [chunk for chunk in group if isinstance(chunk, ChatChunk | responses.Completion) and chunk.choices]
        if self._wanted.counts:
            for chunk in chunks:
                chunk.usage = self._usage()
        if self._wanted.token_ids and chunks:
            self._add_ids(i, chunks)

    def _add_ids(self, i: int, chunks: Sequence[ChatChunk | responses.Completion]) -> None:
        ids, self._waiting[i] = self._waiting[i], []
        chunks[-1].choices[0].token_ids = ids
        if not self._begun[i]:
            self._begun[i] = True
            first = chunks[0]
            if isinstance(first, ChatChunk):
                first.prompt_token_ids = self._prompts[i]
            else:
                first.choices[0].prompt_token_ids = self._prompts[i]

    def _usage(self) -> responses.CompletionUsage:
        made = sum(self._made)
        return responses.CompletionUsage(
            prompt_tokens=self._prompt_tokens, completion_tokens=made, total_tokens=self._prompt_tokens + made
        )
