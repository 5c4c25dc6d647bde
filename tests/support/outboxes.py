"""What an outbox is tested with: a fake sender that keeps what it is given, and a clock that a test sets."""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "bento_trtllm/triton_models/shared"))

from outbox import Outbox, Outgoing, Piece


class Sent:
    """A request's responses, (tokens, final) each."""

    def __init__(self) -> None:
        self.responses: list[tuple[list[int], bool]] = []

    def send(self, piece: Piece, final: bool) -> None:
        self.responses.append((piece.tokens, final))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def make(box: Outbox, outgoing: Outgoing, *tokens: int, finished: bool = False) -> None:
    outgoing.pieces[0].tokens += tokens
    outgoing.pieces[0].finished = outgoing.finished = finished
    box.put(outgoing)


def never(outgoing: Any, error: Exception) -> None:
    raise AssertionError(error)
