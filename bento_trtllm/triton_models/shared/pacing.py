"""How often a stream's tokens are sent: one policy, for the engine's responses and for the gateway's chunks.

Whatever is sent costs its sender about the same however many tokens are in it. So a stream sends at once when it has
been quiet, but no sooner than its pace after it last sent; what is made meanwhile goes along. The pace grows with the
number of streams: one alone comes token by token, and all together never take more than a fixed share of a core.
Copied beside the models, which stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass

OF_TIME = 0.01
"""The part of an engine's time in which it may ask whether clients have left. Each question takes some 40 µs."""
LONGEST_CHECK_S = 0.1
"""As long as TensorRT-LLM's own default lets a request run on that was cancelled."""


@dataclass(frozen=True)
class Pace:
    """Times are in ms. `stream_ms` is kept between two sends of a stream for each stream that is open."""

    stream_ms: float
    slowest_ms: float = 100.0
    """Beyond it more streams make no difference: text still moves ten times a second."""

    def gap_s(self, streams: int) -> float:
        """Seconds between two sends of a stream, where so many are open."""
        return min(self.stream_ms * streams, self.slowest_ms) / 1000


def check_gap_s(wanted_s: float, took_s: float) -> float:
    """Seconds from one round of such questions, which took so long, to the next: as wanted, where there is time for it.

    Never more than LONGEST_CHECK_S, or what is wanted, if that is more.
    """
    return max(wanted_s, min(took_s / OF_TIME, LONGEST_CHECK_S))
