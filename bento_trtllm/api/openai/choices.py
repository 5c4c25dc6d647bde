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
    """Tokens of a request: each prompt once, each answer as it ends. `complete` says that all have."""

    def __init__(self, prompt_tokens: int, answers: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._missing = answers

    @property
    def complete(self) -> bool:
        return not self._missing

    def add(self, finish: Finish) -> None:
        """An answer is complete."""
        self._completion_tokens += finish.usage.completion_tokens
        self._missing -= 1

    def usage(self) -> responses.Usage:
        """The counts so far."""
        total = self._prompt_tokens + self._completion_tokens
        return responses.Usage(
            prompt_tokens=self._prompt_tokens, completion_tokens=self._completion_tokens, total_tokens=total
        )
