"""Stop strings: text that ends an answer, wherever the boundaries between tokens are."""

from collections.abc import Sequence


class StopStrings:
    """Passes text on, up to the first stop string; holds back what may be the start of one.

    With `keep` the stop string is passed on as well.
    """

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        self._keep = keep
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.met: str | None = None
        """The stop string that was met."""

    def __bool__(self) -> bool:
        return bool(self._stops)

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that may be sent now, and whether a stop string was found; then nothing may follow."""
        if not self._stops:
            return text, False
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            # The one that is complete first, so that it does not matter how the text was split into pieces.
            end, start, self.met = min(found)
            return text[: end if self._keep else start], True
        keep = self._possible_start(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """The text that was held back, once there is no more."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Length of the longest suffix of the text that begins a stop string."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
