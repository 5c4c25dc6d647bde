"""TensorRT-LLM's layout for words, of stop_words_list and bad_words_list: int32 [1, 2, n].

Row 0 has the token ids of all words one after the other, row 1 the end of each word in row 0, padded with -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def join_words(words: Iterable[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The two rows of some words; both are empty where there is none."""
    flat: list[int] = []
    ends: list[int] = []
    for word in words:
        flat += word
        ends.append(len(flat))
    return flat, ends + [-1] * (len(flat) - len(ends))


def split_words(flat: Sequence[int], ends: Sequence[int]) -> list[tuple[int, ...]]:
    """The words of two rows; empty ones are left out. Raises ValueError for ends that do not rise, or that pass the
    row's end."""
    words = []
    start = 0
    for end in ends:
        if end < 0:
            break
        if not start <= end <= len(flat):
            raise ValueError("offsets that do not rise, or that pass its end")
        if end > start:
            words.append(tuple(flat[start:end]))
        start = end
    return words
