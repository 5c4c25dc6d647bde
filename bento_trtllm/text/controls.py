"""Control tokens: recognised where a template writes them, never where a user does."""

import re
import secrets
from collections.abc import Iterator, Mapping

from tokenizers import AddedToken

# Characters that are searched at once: a search holds Python's lock.
SLICE = 32_768
# Parts of a text that are joined at once, for the same reason.
JOINED = 4096
# Digits, which no filter of a template changes: neither `upper` nor `tojson` with any arguments. They are unknown to
# users, so that their text cannot contain them. Some digits of a mark are enough, since a template may cut a text:
# `content[1:]`.
DIGITS, ENOUGH = 24, 4


class Controls:
    """Marks control tokens in a user's text before it enters a template, and finds the template's own afterwards.

    The marks are on both sides of a token, so that a template can still look for it: `split('</think>')` leaves one
    mark on each side, which then means nothing.
    """

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        """`tokens` by id; their lstrip, rstrip and single_word are honoured as by the `tokenizers` library."""
        self.ids = {token.content: i for i, token in tokens.items()}
        self._tokens = {token.content: token for token in tokens.values()}
        # Longest first, so that no token hides a longer one with the same beginning.
        names = sorted(self.ids, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._longest = max(map(len, names), default=1)
        self._open, self._close = (f"{secrets.randbelow(10**DIGITS):0{DIGITS}}" for _ in "()")

    def protect(self, text: str) -> str:
        """A user's text with each control token in it marked as plain characters."""
        joined: list[str] = []
        parts: list[str] = []
        start = 0
        for match in self._search(text):
            parts += text[start : match.start()], self._open, match[0], self._close
            start = match.end()
            if len(parts) >= JOINED:
                joined.append("".join(parts))
                parts.clear()
        return "".join((*joined, *parts, text[start:])) if start else text

    def find(self, prompt: str) -> Iterator[tuple[int, int, int]]:
        """Where each of the template's own control tokens begins and ends in a prompt, and its id.

        Includes the whitespace that a token absorbs.
        """
        last = 0
        for match in self._search(prompt):
            token = self._tokens[match[0]]
            start, end = match.span()
            if self._is_marked(prompt, start, end) or (token.single_word and _in_word(prompt, start, end)):
                continue
            if token.lstrip:
                start = last + len(prompt[last:start].rstrip())
            if token.rstrip:
                while end < len(prompt) and prompt[end].isspace():
                    end += 1
            yield start, end, self.ids[match[0]]
            last = end

    def bare(self, text: str) -> str:
        """A text without marks, taken out of some of it at a time."""
        parts = []
        at = 0
        while at < len(text):
            end = self._behind_mark(text, at + SLICE)
            parts.append(text[at:end].replace(self._open, "").replace(self._close, ""))
            at = end
        return "".join(parts)

    def marks(self, text: str) -> int:
        """How many characters of a text are marks."""
        return (text.count(self._open) + text.count(self._close)) * DIGITS

    def _behind_mark(self, text: str, place: int) -> int:
        """The place, or the end of the mark that it is within."""
        for mark in (self._open, self._close):
            begin = text.find(mark, place - DIGITS + 1, place + DIGITS - 1)
            if begin >= 0:
                return begin + DIGITS
        return place

    def _is_marked(self, prompt: str, start: int, end: int) -> bool:
        # A longer token may seem to be there, including a digit of either mark.
        opened = self._open[-ENOUGH:] in prompt[max(start - ENOUGH, 0) : end]
        return opened and self._close[:ENOUGH] in prompt[start : end + ENOUGH]

    def _search(self, text: str) -> Iterator[re.Match[str]]:
        at = 0
        while at < len(text):
            end = at + SLICE
            match = self._names.search(text, at, end + self._longest)
            if match and match.start() < end:
                yield match
                at = match.end()
            else:
                at = end


def _in_word(text: str, start: int, end: int) -> bool:
    return any(re.match(r"\w", around) for around in (text[max(start - 1, 0) : start], text[end : end + 1]))
