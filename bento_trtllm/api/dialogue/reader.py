"""An answer as it comes: which parts of it are text, thoughts and calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bento_trtllm.api.dialogue.thoughts import Heard, ThoughtReader
from bento_trtllm.api.tools.calls import CallDelta
from bento_trtllm.api.tools.formats import CallParser
from bento_trtllm.generation.results import FinishReason

EndReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Thought:
    """What a model writes for itself before it answers."""

    text: str


Part = str | Thought | CallDelta
"""A piece of an answer; a string is its text."""


class AnswerReader:
    """Reads one answer. Without a reader of thoughts and a parser of calls all of it is text."""

    def __init__(self, thoughts: ThoughtReader | None = None, parser: CallParser | None = None) -> None:
        self._thoughts = thoughts
        self._parser = parser

    def feed(self, text: str) -> Sequence[Part]:
        """The parts that a text adds."""
        if self._thoughts is None:
            return self._words(text)
        return self._heard(self._thoughts.feed(text))

    def finish(self, reason: FinishReason) -> tuple[Sequence[Part], EndReason]:
        """What was held back, once no more text comes, and why the answer is over.

        A call that was cut is no reason to call anything.
        """
        held = list(self._heard(self._thoughts.finish())) if self._thoughts else []
        if self._parser is None:
            return held, reason
        held += self._parser.finish()
        return held, "tool_calls" if self._parser.calls and reason == "stop" else reason

    def _heard(self, heard: Heard) -> Sequence[Part]:
        thoughts: list[Part] = [Thought(heard.thought)] if heard.thought else []
        return [*thoughts, *self._words(heard.words)] if heard.words else thoughts

    def _words(self, text: str) -> Sequence[Part]:
        return self._parser.feed(text) if self._parser else [text]
