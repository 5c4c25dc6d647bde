"""How often a stream's tokens are sent: one policy, for the engine's responses and for the gateway's chunks.

Whatever is sent costs its sender about the same however many tokens are in it. So a stream sends at once when it has
been quiet, but no sooner than its pace after it last sent; what is made meanwhile goes along. The pace grows with the
number of streams: one alone comes token by token, and all together never take more than a fixed share of a core.
Copied beside the models, which stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Times are in ms. `stream_ms` is kept between two sends of a stream for each stream that is open."""

    stream_ms: float
    slowest_ms: float = 100.0
    """Beyond it more streams make no difference: text still moves ten times a second."""

    def gap_s(self, streams: int) -> float:
        """Seconds between two sends of a stream, where so many are open."""
        return min(self.stream_ms * streams, self.slowest_ms) / 1000
