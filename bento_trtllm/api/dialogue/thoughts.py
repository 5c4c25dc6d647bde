"""What a model writes between `<think>` and `</think>` before it answers, as in DeepSeek's and Qwen's templates."""

from typing import Literal, NamedTuple

from bento_trtllm.grammar.expressions import Expression, choice, sequence
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.until import until

OPEN, CLOSE = "<think>", "</think>"
MARKS = (OPEN, CLOSE)


Thinking = Literal["no", "may", "begun"]
"""Whether an answer has thoughts before it; "begun" where the prompt ends with the first mark."""


class Heard(NamedTuple):
    """What a text adds to the thoughts, and to the answer."""

    thought: str
    words: str


class ThoughtReader:
    """Tells thoughts from the answer; white space around the thoughts belongs to neither.

    With `begun` the answer begins within a thought.
    """

    def __init__(self, *, begun: bool) -> None:
        self._state: Literal["before", "inside", "after", "answer"] = "inside" if begun else "before"
        self._held = ""
        self._thought = False

    def feed(self, text: str) -> Heard:
        """What is known of a text, and of what was held back."""
        self._held += text
        if self._state == "before":
            bare = self._held.lstrip()
            if bare.startswith(OPEN):
                self._state, self._held = "inside", bare[len(OPEN) :]
            elif not OPEN.startswith(bare):
                self._state = "answer"
        thought = self._inside() if self._state == "inside" else ""
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "answer" if self._held else "after"
        words = ""
        if self._state == "answer":
            words, self._held = self._held, ""
        return Heard(thought, words)

    def finish(self) -> Heard:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return Heard(held.rstrip(), "") if self._state == "inside" else Heard("", held)

    def _inside(self) -> str:
        if not self._thought:
            self._held = self._held.lstrip()
        thought, mark, rest = self._held.partition(CLOSE)
        if mark:
            self._state, self._held = "after", rest
            return thought.rstrip()
        start = next((n for n in range(len(CLOSE) - 1, 0, -1) if thought.endswith(CLOSE[:n])), 0)
        known = thought[: len(thought) - start].rstrip()
        self._held = thought[len(known) :]
        self._thought = self._thought or bool(known)
        return known


def before(rules: Rules, answer: Expression, thinking: Thinking) -> Expression:
    """An answer that follows a grammar, and thoughts before it that follow none."""
    if thinking == "no":
        return answer
    thoughts = until(rules, "think", CLOSE, choice("", "\n", "\n\n"))
    return sequence(thoughts if thinking == "begun" else choice("", sequence(OPEN, thoughts)), answer)
