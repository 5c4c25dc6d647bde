"""Scores that come beside the chosen token's own, kept as numbers until they are handed on."""

from array import array
from collections.abc import Mapping, Sequence

from bento_trtllm.generation.source import PromptScore, Top
from bento_trtllm.triton.wire.codec import (
    PROMPT_RANKS,
    PROMPT_SCORES,
    PROMPT_TOP_IDS,
    PROMPT_TOP_SCORES,
    TOP_IDS,
    TOP_SCORES,
)


class Tops:
    """The likeliest tokens of places in a row, as many for each: 8 bytes a token."""

    def __init__(self) -> None:
        self._ids, self._scores = array("i"), array("f")

    def add(self, ids: bytes, scores: bytes) -> None:
        """Append, int32s and float32s."""
        self._ids.frombytes(ids)
        self._scores.frombytes(scores)

    def take(self, count: int, of: int) -> Sequence[Top]:
        """The first `count` places of all `of`, which leave; none where there are no tokens."""
        each = len(self._ids) // of if of else 0
        if not each:
            return ()
        pairs = list(zip(self._ids[: count * each], self._scores[: count * each], strict=True))
        del self._ids[: count * each], self._scores[: count * each]
        return [pairs[i : i + each] for i in range(0, len(pairs), each)]


class FurtherScores:
    """Of one stream: the likeliest tokens beside the answer's, and all of the prompt's."""

    def __init__(self) -> None:
        self._tops, self._prompt_tops = Tops(), Tops()
        self._prompt, self._ranks = array("f"), array("i")

    @property
    def has_prompt(self) -> bool:
        """Whether scores of the prompt wait to be taken."""
        return bool(self._prompt)

    def add(self, found: Mapping[str, bytes]) -> None:
        """Those of a response, by the names of its outputs."""
        if TOP_IDS in found:
            self._tops.add(found[TOP_IDS], found[TOP_SCORES])
        if PROMPT_SCORES in found:
            self._prompt.frombytes(found[PROMPT_SCORES])
            self._ranks.frombytes(found[PROMPT_RANKS])
            self._prompt_tops.add(found[PROMPT_TOP_IDS], found[PROMPT_TOP_SCORES])

    def take_tops(self, count: int, of: int) -> Sequence[Top]:
        """Beside the first `count` of all `of` tokens that wait."""
        return self._tops.take(count, of)

    def take_prompt(self) -> list[PromptScore]:
        """All of the prompt's that wait."""
        tops = self._prompt_tops.take(len(self._prompt), len(self._prompt)) or [()] * len(self._prompt)
        taken = list(map(PromptScore, self._prompt, self._ranks, tops))
        del self._prompt[:], self._ranks[:]
        return taken
