"""The limits that a schema sets: how many characters or items, and between which integers."""

import math
from collections.abc import Mapping
from typing import Any

from bento_trtllm.grammar.ebnf import MAX_GUIDED_COUNT
from bento_trtllm.grammar.grammar import GrammarError

MAX_COUNT = 10_000


def counts(schema: Mapping[str, Any], what: str, at: str) -> tuple[int, int | None]:
    """minLength and maxLength, or minItems and maxItems. Raises GrammarError."""
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    for key, value in ((f"min{what}", low), (f"max{what}", high)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise GrammarError(f"{at}/{key} must be a whole number")
        most = MAX_COUNT if key.startswith("max") else MAX_GUIDED_COUNT
        if value is not None and value > most:
            raise GrammarError(f"{at}/{key} is over {most}, the most that is enforced: leave it out")
    if high is not None and high < low:
        raise GrammarError(f"{at}/max{what} is less than min{what}")
    return low, high


def limits(schema: Mapping[str, Any], at: str) -> tuple[int | None, int | None]:
    """The least and the greatest integer within a schema's bounds. Raises GrammarError."""
    low, high = -math.inf, math.inf
    for key, value in schema.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise GrammarError(f"{at}/{key} must be a number")
        if key.endswith("inimum"):
            low = max(low, math.floor(value) + 1 if key.startswith("exclusive") else math.ceil(value))
        else:
            high = min(high, math.ceil(value) - 1 if key.startswith("exclusive") else math.floor(value))
    return None if low == -math.inf else int(low), None if high == math.inf else int(high)
