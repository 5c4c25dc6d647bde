"""Limits the size of a schema, by a walk that ends as soon as it is too large."""

from collections.abc import Iterable, Mapping
from typing import Any

from bento_trtllm.grammar.grammar import GrammarError

# Limits for a whole schema: characters of names and values, and the number of objects, arrays and values. The schemas
# that pydantic makes of large models have some 10,000 characters.
MAX_CHARACTERS, MAX_PARTS = 65_536, 10_000
# Nesting of objects and arrays. Recursion by $ref needs none.
MAX_DEPTH = 64


def check_size(schema: object) -> None:
    """Raise GrammarError, which names the part that is too large or contains invalid text."""
    try:
        _Walk().enter(schema, "", 0)
    except _Full as full:
        raise GrammarError(f"it is too large: {full.place or 'the schema'} {full}") from None


def _whole(text: str) -> bool:
    """Whether a text can be encoded."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class _Full(Exception):
    place: str | None = None


class _Walk:
    def __init__(self) -> None:
        self._characters = 0
        self._parts = 0

    def enter(self, value: Any, at: str, depth: int) -> None:
        """Count a part of the schema, and everything in it."""
        self._parts += 1
        texts = [value] if isinstance(value, str) else value if isinstance(value, Mapping) else ()
        if not all(text.isascii() or _whole(text) for text in texts):
            raise GrammarError(f"{at or 'the schema'} has half of a surrogate pair, which is not a character")
        if isinstance(value, str | int | float):
            self._characters += len(value) if isinstance(value, str) else 8
        if self._characters > MAX_CHARACTERS:
            raise _Full(f"has too much of the {MAX_CHARACTERS} characters that a schema may have")
        if self._parts > MAX_PARTS:
            raise _Full(f"has too many of the {MAX_PARTS} parts that a schema may have")
        if depth > MAX_DEPTH:
            full = _Full(f"is nested over {MAX_DEPTH} deep")
            full.place = f"{at[:60]}…"
            raise full
        items: Iterable[tuple[object, Any]] = ()
        if isinstance(value, Mapping):
            items = value.items()
            self._characters += sum(map(len, value))
        elif isinstance(value, list):
            items = enumerate(value)
        before = self._characters, self._parts
        try:
            for key, item in items:
                self.enter(item, f"{at}/{key}", depth + 1)
        except _Full as full:
            # Name the part that holds most of it, not the place where the limit was reached.
            most = self._characters - before[0] > MAX_CHARACTERS // 2 or self._parts - before[1] > MAX_PARTS // 2
            if full.place is None and most:
                full.place = at
            raise
