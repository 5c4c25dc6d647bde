"""Requests that come together begin in one step, which reads the weights once for all their prompts.

A server hands them on one after another, some milliseconds in all, and the first of them would fill a step of its own
while the others wait for it. So before a first step others are waited for: as long as one comes within QUIET_S, and for
a small part of the time that the prompts will take, so that a fast engine does not wait at all.
"""

from __future__ import annotations

SHARE = 0.03
QUIET_S = 0.005


class Gathering:
    """Knows from the steps before what a token of a prompt takes; before the first it does not wait."""

    def __init__(self, step_tokens: int) -> None:
        """A step takes up to so many tokens of prompts."""
        self._step_tokens = step_tokens
        self._token_s = 0.0

    def learn(self, tokens: int, took_s: float) -> None:
        """A step took that long, with nothing but new prompts of so many tokens."""
        self._token_s = took_s / min(tokens, self._step_tokens)

    def left_s(self, tokens: int, waited_s: float) -> float:
        """How long to wait for the next, where those that are there have so many tokens; 0 where no longer."""
        return max(0.0, min(QUIET_S, SHARE * self._token_s * tokens - waited_s))
