"""One stream, counted in plain Python: an arrival of tokens costs one reading of the clock and one list update."""

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import get_args

from bento_trtllm.generation.client import CLIENT
from bento_trtllm.generation.results import FinishReason
from bento_trtllm.keys.ledger import ACCOUNT
from bento_trtllm.metrics.routes import ROUTE
from bento_trtllm.metrics.spans import StreamSpan

# Bounds of the time per token, in seconds. OpenTelemetry begins at 10 ms; small models and large GPUs are faster.
BETWEEN_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
# Outcomes of streams whose answer is complete.
WHOLE = get_args(FinishReason)


class StreamCount:
    """One stream, from its request to its end. Times are in seconds."""

    __slots__ = (
        *("account", "admitted_at", "began", "client", "counts", "ended_at", "first_at", "last_at"),
        *("outcome", "prompt_tokens", "record", "route", "span", "tokens"),
    )

    def __init__(
        self, prompt_tokens: int, record: "Callable[[StreamCount], None]", span: StreamSpan | None = None
    ) -> None:
        """`record` is called with this, once, at the end; `span` is told of it then, in a traced request.

        A key's account has the tokens as they arrive.
        """
        self.prompt_tokens = prompt_tokens
        self.record = record
        self.span = span
        self.account = ACCOUNT.get()
        self.client = CLIENT.get().name
        self.route = ROUTE.get()
        self.began = time.perf_counter()
        self.admitted_at = self.first_at = self.last_at = self.ended_at = 0.0
        self.tokens = 0
        self.counts = [0] * (len(BETWEEN_S) + 1)
        self.outcome = ""

    @property
    def trace(self) -> tuple[tuple[str, str], ...]:
        """The stream's span, for Triton's to be children of."""
        return self.span.headers if self.span else ()

    def admitted(self) -> None:
        """The stream has left the queue."""
        self.admitted_at = time.perf_counter()

    def arrived(self, tokens: int) -> None:
        """This many tokens have arrived together: each takes an equal share of the time since the previous arrival."""
        now = time.perf_counter()
        if self.tokens:
            self.counts[bisect_left(BETWEEN_S, (now - self.last_at) / tokens)] += tokens
        else:
            self.first_at = now
            # Tokens that arrive with the first took no extra time.
            self.counts[0] += tokens - 1
        self.last_at = now
        if self.account:
            self.account.use(0 if self.tokens else self.prompt_tokens, tokens)
        self.tokens += tokens

    def ended(self, outcome: str) -> None:
        """The stream is over, with the answer's finish reason or the reason why the answer is not complete."""
        self.outcome = outcome
        self.ended_at = time.perf_counter()
        self.record(self)
        if self.span:
            times = (self.began, self.admitted_at, self.first_at, self.ended_at)
            self.span.end(times, outcome, outcome in WHOLE, self.tokens)
