"""What the choices of one response have in common: the fields that it begins with, and the count of its tokens."""

import time
from dataclasses import dataclass, field

from bento_trtllm.api.openai import responses
from bento_trtllm.generation.results import Finish


@dataclass(frozen=True)
class ResponseHead:
    """What all events of a response begin with."""

    id: str
    model: str
    system_fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))


class UsageCounter:
    """Tokens of a request: each prompt once, each answer as it ends. `complete` says that all have.

    Each prompt has `each` answers, one after the other.
    """

    def __init__(self, prompt_tokens: int, answers: int, each: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._missing = answers
        self._each = each
        # By prompt: what its first answer found, as the others may find what that one left.
        self._cached: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        return not self._missing

    def add(self, i: int, finish: Finish) -> None:
        """Answer `i` is complete."""
        self._completion_tokens += finish.usage.completion_tokens
        self._missing -= 1
        if (cached := finish.usage.cached_tokens) is not None:
            prompt = i // self._each
            self._cached[prompt] = min(cached, self._cached.get(prompt, cached))

    def usage(self) -> responses.CompletionUsage:
        """The counts so far."""
        total = self._prompt_tokens + self._completion_tokens
        usage = responses.CompletionUsage(
            prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens, total_tokens=total
        )
        if self._cached:
            usage.prompt_tokens_details = responses.PromptTokensDetails(cached_tokens=sum(self._cached.values()))
        return usage
