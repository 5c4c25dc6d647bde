"""Odd values for any field of a request, and for any keyword of a schema."""

from typing import Any

HALF, HALF_INSIDE = "hi \ud83d", {"a": ["\udc00"]}
NAN, INFINITY = float("nan"), float("inf")
MANY_DIGITS = "9" * 5000


def nested(depth: int, leaf: Any = 1) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


ODD: dict[str, Any] = {
    "half a pair": HALF,
    "half a pair inside": HALF_INSIDE,
    "half a pair as a key": {"\ud83d": 1},
    "NaN": NAN,
    "infinity": INFINITY,
    "400 digits": 10**400,
    "deep": nested(150),
    "too deep": nested(500),
    "null": None,
    "true": True,
    "empty text": "",
    "empty list": [],
    "empty object": {},
    "object": {"a": 1},
    "numbers": [1],
    "texts": ["a"],
    "minus one": -1,
    "a fraction": 1.5,
    "64 bits": 2**64,
    "digits": MANY_DIGITS,
    "a null character": "\0",
    "next to nothing": 1e-320,
}
REFUSED_AS_JSON = {"half a pair", "half a pair inside", "half a pair as a key", "NaN", "infinity", "too deep"}
"""Those with which a body is refused, whichever field they are in."""
KEYWORDS = [
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems"),
    *("maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "multipleOf", "anyOf", "oneOf", "allOf", "$ref", "$defs", "description", "default", "not"),
]
BASES: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"type": "integer"}}},
    {"type": "array", "items": {"type": "string"}},
    {"type": "integer"},
    {"type": "string"},
]
