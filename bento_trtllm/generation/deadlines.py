"""How long a stream may take, and why it was ended early."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bento_trtllm.generation.errors import EngineTimeout, EngineUnavailable, GenerationError


@dataclass(frozen=True)
class Deadlines:
    """How long an answer may take, in seconds."""

    first_token_s: float
    between_tokens_s: float
    whole_s: float


def _nothing() -> None:
    """What a watch cancels that has stopped."""


class Watch:
    """Cancels a call that exceeds a deadline. One timer per stream, reset when it fires: progress costs nothing."""

    def __init__(
        self,
        cancel: Callable[[], object],
        deadlines: Deadlines,
        began: float | None = None,
        suspect: Callable[[], None] = lambda: None,
    ) -> None:
        """The deadlines count from `began`, by the loop's clock; by default from now.

        `suspect` is called when no token came in time, which may be due to a hung engine.
        """
        self._cancel = cancel
        self._suspect = suspect
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        """When tokens last arrived, by the loop's clock; before the first, when the call began."""
        self._began = self.heard_at if began is None else began
        self._tokens = False
        self._expired: GenerationError | None = None
        self._timer = self._loop.call_at(self._began + min(deadlines.first_token_s, deadlines.whole_s), self._ring)

    def progressed(self) -> None:
        """Tokens have arrived."""
        self.heard_at = self._loop.time()
        if not self._tokens:
            self._tokens = True
            self._timer.cancel()
            self._ring()

    def expire(self, error: GenerationError) -> None:
        """Cancel the call, for the reason that `why` returns from then on."""
        if self._expired is None:
            self._expired = error
            self._cancel()

    def why(self, otherwise: str) -> GenerationError:
        """The error for which the call was cancelled here; otherwise EngineUnavailable with the given message."""
        return self._expired or EngineUnavailable(otherwise)

    def stop(self) -> None:
        """Stop watching, and let go of what would be cancelled: it holds this, and both would wait for the garbage
        collector, which comes rarely."""
        self._timer.cancel()
        self._cancel = _nothing

    def _ring(self) -> None:
        now = self._loop.time()
        limits = self._deadlines
        whole = self._began + limits.whole_s
        step = self.heard_at + limits.between_tokens_s if self._tokens else self._began + limits.first_token_s
        if now >= whole:
            self.expire(EngineTimeout(f"The answer was not complete after {limits.whole_s:g} s."))
        elif now >= step:
            waited = limits.between_tokens_s if self._tokens else limits.first_token_s
            which = "further" if self._tokens else "first"
            self.expire(EngineTimeout(f"The engine gave no {which} token within {waited:g} s."))
            self._suspect()
        else:
            self._timer = self._loop.call_at(min(whole, step), self._ring)
