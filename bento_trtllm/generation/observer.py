"""Who is told how streams go: the metrics, as the core sees them. Times are the observer's own affair."""

from typing import Protocol

CANCELLED = "cancelled"
"""The outcome of a stream whose client left."""


class StreamObserver(Protocol):
    """Follows one stream."""

    def admitted(self) -> None:
        """It is no longer in line, and the engine has been asked."""
        ...

    def arrived(self, tokens: int) -> None:
        """So many tokens have come, together."""
        ...

    def ended(self, outcome: str) -> None:
        """It is over, and nothing of it is left: said once, whatever ended it.

        `outcome` is the answer's finish reason, the kind of an error (errors.py), or CANCELLED.
        """
        ...


class Observer(Protocol):
    """Follows all streams: metrics.prometheus.Telemetry."""

    def began(self, prompt_tokens: int) -> StreamObserver:
        """A request with a prompt of that length is put in line."""
        ...

    def refused(self, kind: str) -> None:
        """A request was not even put in line, for an error of this kind."""
        ...


class NoObserver:
    """Is told, and does nothing: an Observer, and the StreamObserver of each of its streams."""

    def began(self, prompt_tokens: int) -> "NoObserver":
        return self

    def refused(self, kind: str) -> None:
        pass

    def admitted(self) -> None:
        pass

    def arrived(self, tokens: int) -> None:
        pass

    def ended(self, outcome: str) -> None:
        pass
