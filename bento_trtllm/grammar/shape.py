"""Checks that a JSON Schema is well-formed: each keyword's value has the right type (2020-12, its meta-schemas).

What a keyword means, and whether it is supported, is up to schema.py.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from bento_trtllm.grammar.grammar import GrammarError

Check = Callable[[Any], bool]


def check_shape(schema: Any, at: str = "") -> None:
    """Raises GrammarError, which names the keyword and its place."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise GrammarError(f"{at or 'the schema'} must be an object or true")
    for key, value in schema.items():
        where = f"{at}/{key}"
        if key in PLAIN:
            wanted, check = PLAIN[key]
            if not check(value):
                raise GrammarError(f"{where} must be {wanted}")
        elif key in ONE:
            check_shape(value, where)
        elif key in SEVERAL:
            if not isinstance(value, list) or not value:
                raise GrammarError(f"{where} must be an array of schemas")
            for i, part in enumerate(value):
                check_shape(part, f"{where}/{i}")
        elif key in NAMED:
            if not isinstance(value, Mapping):
                raise GrammarError(f"{where} must be an object of schemas")
            for name, part in value.items():
                check_shape(part, f"{where}/{name}")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and isfinite(value)))


def _count(value: Any) -> bool:
    return _number(value) and value >= 0 and value == int(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


PLAIN: dict[str, tuple[str, Check]] = {
    "type": ("a type, or an array of types", lambda value: _text(value) or bool(value and _texts(value))),
    "enum": ("an array", lambda value: isinstance(value, list)),
    "required": ("an array of names", _texts),
    **dict.fromkeys(("pattern", "format", "$ref", "$anchor", "$id"), ("a string", _text)),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        ("a whole number, and not negative", _count),
    ),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), ("a number", _number)),
    "multipleOf": ("a number above 0", lambda value: _number(value) and value > 0),
    "uniqueItems": ("true or false", lambda value: isinstance(value, bool)),
}
ONE = {"additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames"}
SEVERAL = {"prefixItems", "anyOf", "oneOf", "allOf"}
NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
