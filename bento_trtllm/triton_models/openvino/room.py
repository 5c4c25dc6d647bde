"""Room in the KV cache, for when a request may only begin once there is room for all that it may become.

When the cache runs out, OpenVINO GenAI 2026.4.1 takes it from a request, and computes it anew later. Where it also
guesses tokens, that fails, for all requests.
"""

from __future__ import annotations

from collections.abc import Iterable

from request import EngineRequest

SPARE = 1
"""Blocks of a sequence for the tokens that are guessed, most of which are given up again."""


class Room:
    """The blocks of a KV cache, and who has been promised how many."""

    def __init__(self, blocks: int, block_tokens: int, guessed: int) -> None:
        """`guessed` tokens a step are in the cache besides those of the answer; without any, nobody has to wait."""
        self._blocks = blocks
        self._block_tokens = block_tokens
        self._guessed = guessed
        self._left = 0

    def fits(self, request: EngineRequest, running: Iterable[EngineRequest]) -> bool:
        """Whether it may begin beside the others."""
        if not self._guessed:
            return True
        return self._needed(request) + sum(map(self._needed, running)) + self._left <= self._blocks

    def ever_fits(self, request: EngineRequest) -> bool:
        """Whether it may begin alone."""
        return not self._guessed or self._needed(request) <= self._blocks

    def leave(self, request: EngineRequest) -> None:
        """It has left: the engine frees its blocks in its next step."""
        self._left += self._needed(request)

    def stepped(self) -> None:
        """The engine has made a step."""
        self._left = 0

    def _needed(self, request: EngineRequest) -> int:
        tokens = len(request.prompt) + request.max_tokens + self._guessed
        return request.sequences * (-(-tokens // self._block_tokens) + SPARE)
