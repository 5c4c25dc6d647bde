"""The minimum and maximum number of characters, items or properties that a schema sets."""

from collections.abc import Mapping
from typing import Any

from bento_trtllm.grammar.ebnf import MAX_GUIDED_COUNT
from bento_trtllm.grammar.grammar import GrammarError

MAX_COUNT = 10_000


def counts(schema: Mapping[str, Any], what: str, at: str) -> tuple[int, int | None]:
    """minLength and maxLength, or the same for Items or Properties. Raises GrammarError."""
    low, high = int(schema.get(f"min{what}", 0)), schema.get(f"max{what}")
    high = None if high is None else int(high)
    for key, value in ((f"min{what}", low), (f"max{what}", high)):
        most = MAX_COUNT if key.startswith("max") else MAX_GUIDED_COUNT
        if value is not None and value > most:
            raise GrammarError(f"{at}/{key} is over {most}, the most that is enforced: leave it out")
    if high is not None and high < low:
        raise GrammarError(f"{at}/max{what} is less than min{what}")
    return low, high
