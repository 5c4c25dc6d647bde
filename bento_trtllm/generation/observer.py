"""How the core reports on streams; the metrics implement it. Measuring time is up to the observer."""

from typing import Protocol

from bento_trtllm.generation.parameters import GenerationRequest

CANCELLED = "cancelled"
"""The outcome of a stream whose client left."""


class StreamObserver(Protocol):
    """Follows one stream."""

    @property
    def trace(self) -> tuple[tuple[str, str], ...]:
        """W3C's trace context for what the engine does, as headers; empty for a stream that is not traced."""
        ...

    def admitted(self) -> None:
        """It has left the queue, and the engine has been asked."""
        ...

    def arrived(self, tokens: int) -> None:
        """This many tokens have arrived together."""
        ...

    def ended(self, outcome: str) -> None:
        """It is over and cleaned up: called exactly once, whatever ended it.

        `outcome` is the answer's finish reason, the kind of an error (errors.py), or CANCELLED.
        """
        ...


class Observer(Protocol):
    """Follows all streams: metrics.prometheus.Telemetry."""

    def began(self, request: GenerationRequest) -> StreamObserver:
        """A request has joined the queue."""
        ...

    def refused(self, kind: str) -> None:
        """A request was refused before it was queued, with an error of this kind."""
        ...


class NoObserver:
    """Does nothing: both an Observer and the StreamObserver of each of its streams."""

    trace = ()

    def began(self, request: GenerationRequest) -> "NoObserver":
        return self

    def refused(self, kind: str) -> None:
        pass

    def admitted(self) -> None:
        pass

    def arrived(self, tokens: int) -> None:
        pass

    def ended(self, outcome: str) -> None:
        pass
