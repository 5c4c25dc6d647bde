"""JSON schemas: of every kind that is taken, too large ones, the largest that are admitted; and texts of a grammar."""

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from bento_trtllm.grammar.expressions import Characters, Choice, Expression, Literal, Repeat, Rule, Within
from bento_trtllm.grammar.grammar import ROOT, Grammar


class Address(BaseModel):
    street: str = Field(max_length=20)
    floor: int | None = None


class Person(BaseModel):
    name: str
    age: int = Field(ge=0, le=120)
    tags: list[str] = Field(default_factory=list, max_length=3)
    home: Address
    friends: "list[Person]" = []
    born: datetime | None = None


FORMATS = ["date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri"]
PATTERNS = {
    "a": "^[A-Z]{2}-\\d{3,5}$",
    "b": "^[^ @]{1,5}@[\\w.]{1,5}$",
    "c": "^.{1,9}$",
    "d": "^[\u00e0-\uffff]{0,9}$",
    "e": '^(a|"b\\\\){1,3}$',
    "f": "^\\d{1,3}(\\.\\d)?$",
}

SCHEMAS: dict[str, Any] = {
    "anything": {},
    "object": {"type": "object"},
    "pydantic": Person.model_json_schema(),
    "enum": {"enum": ["a", 'quo"te\\', "ünï🦙", 3, None, {"k": [1]}]},
    "typed enum": {"type": "string", "enum": ["low", "high"]},
    "const": {"const": "x"},
    "strings": {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 4}, "minItems": 1},
    "array of counts": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 5},
    "fixed array": {"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 3},
    "empty array": {"type": "array", "maxItems": 0},
    "tuple": {"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}], "items": False, "minItems": 2},
    "numbers": {"type": "array", "items": {"type": "number"}},
    "range": {"type": "number", "minimum": -2.5, "maximum": 7.25},
    "open range": {"type": "number", "exclusiveMinimum": 3},
    "natural": {"type": "integer", "minimum": 0},
    "negative": {"type": "integer", "exclusiveMinimum": -120, "maximum": -7},
    "optional only": {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}}},
    "undeclared": {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
    "closed": {"type": "object", "additionalProperties": False},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "several types": {"type": ["string", "null", "integer"], "maxLength": 3, "minimum": 5},
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "string"}}, "required": ["kind"]},
            {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
            {"type": "null"},
        ]
    },
    "recursive": {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {"type": "object", "properties": {"sub": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
        },
    },
    "formats": {
        "type": "object",
        "properties": {name: {"type": "string", "format": name} for name in FORMATS},
        "required": FORMATS,
    },
    "patterns": {
        "type": "object",
        "properties": {name: {"type": "string", "pattern": pattern} for name, pattern in PATTERNS.items()},
        "required": [*PATTERNS],
    },
    "bounds": {
        "type": "object",
        "properties": {
            "positive": {"type": "number", "exclusiveMinimum": 0},
            "share": {"type": "number", "minimum": 0.1, "maximum": 0.9},
            "longitude": {"type": "number", "minimum": -180, "maximum": 180},
        },
        "required": ["positive", "share", "longitude"],
    },
    "beside": {
        "type": "object",
        "properties": {"a": {"type": "string", "anyOf": [{"maxLength": 2}, {"type": "integer"}]}},
        "required": ["a"],
        "anyOf": [{"required": ["b"], "properties": {"b": {"description": "any"}}}, {"minProperties": 1}],
    },
    "odd keys": {"type": "object", "properties": {'a"b\\\n': {"type": "null"}, "": {"type": "null"}}, "required": [""]},
}


def chain(levels: int) -> dict[str, Any]:
    """Definitions each of which refers to the next."""
    links: dict[str, Any] = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}, "minItems": 1} for i in range(levels)}
    return {**links, f"d{levels}": {"type": "null"}}


def many(part: Callable[[int], Any], count: int, *, required: bool = True) -> dict[str, Any]:
    """An object of so many properties."""
    names = [f"p{i}" for i in range(count)]
    properties = {name: part(i) for i, name in enumerate(names)}
    return {"type": "object", "properties": properties, "required": names if required else []}


def nested(levels: int, schema: Any, **counts: int) -> Any:
    for _ in range(levels):
        schema = {"type": "array", "items": schema, **counts}
    return schema


def doubled(levels: int) -> dict[str, Any]:
    """Each level has the next one twice."""
    defs: dict[str, Any] = {
        f"d{i}": many(lambda _, i=i: {"$ref": f"#/$defs/d{i + 1}"}, 2)  # type: ignore[misc]
        for i in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "null"}}}


LARGE: dict[str, tuple[Any, str]] = {
    "arrays that must have many items": (nested(3, {"type": "integer"}, minItems=128), "/items has 49408 characters"),
    "doubled references": (doubled(20), "#/$defs/d"),
    "a long enum": ({"properties": {"a": {"enum": [*range(100_000)]}}}, "/properties/a/enum has too m"),
    "long names": ({"properties": {"a": {"enum": ["x" * 70_000]}}}, "/properties/a/enum has too much"),
    "optional properties": (
        many(lambda i: {"type": "integer"}, 900, required=False),
        "/properties has 900 optional ones",
    ),
    "required properties": (many(lambda i: {"type": "integer"}, 3000), "/properties has"),
    "many lengths": (many(lambda i: {"type": "string", "minLength": 100}, 3), "/properties"),
    "deep nesting": (nested(300, {}), "is nested over 64 deep"),
    "many ranges": (many(lambda i: {"maximum": 10**14 + i}, 500), "/properties/p"),
}

ADMITTED: dict[str, Any] = {
    "constants": {"oneOf": [{"const": i} for i in range(1900)]},
    "dates": many(lambda i: {"type": "string", "format": "date-time"}, 200),
    "lengths": many(lambda i: {"type": "string", "maxLength": 10_000 - i}, 4),
    "different lengths": many(lambda i: {"type": "string", "maxLength": 100 - i}, 50),
    "words": {"enum": [f"{i * 7919 % 1009} some words {i}" for i in range(1000)]},
    "optional properties": many(lambda i: {"type": "integer"}, 200, required=False),
    "a deep chain": {"$ref": "#/$defs/d0", "$defs": chain(50)},
    "kinds": {"oneOf": [{"type": "object", "properties": {"k": {"const": i}}, "required": ["k"]} for i in range(300)]},
}


def write(grammar: Grammar, rng: random.Random, patience: int = 200, start: Expression | None = None) -> str:
    """A random text of a grammar; after so many steps the shortest that is left."""
    text: list[str] = []
    todo: list[Expression] = [start or Rule(ROOT)]
    while todo:
        part = todo.pop()
        patience -= 1
        if patience < 0:
            text.append(grammar.shortest(part))
        elif isinstance(part, Literal):
            text.append(part.text)
        elif isinstance(part, Characters):
            low, high = rng.choice(part.ranges)
            others = [one for one in "aZ é世🦙/'" if part.has(one)] or [part.example]
            text.append(rng.choice(others) if part.negated else chr(rng.randint(ord(low), ord(high))))
        elif isinstance(part, Rule):
            todo.append(grammar.rules[part.name])
        elif isinstance(part, Choice):
            todo.append(rng.choice(part.options))
        elif isinstance(part, Within):
            tries = [write(grammar, rng, 20, part.item) for _ in range(20)]
            text.append(next((one for one in tries if len(one) <= part.most), grammar.shortest(part)))
        elif isinstance(part, Repeat):
            most = part.least + 5 if part.most is None else part.most
            todo += [part.item] * rng.randint(part.least, most)
        else:
            todo += reversed(part.parts)
    return "".join(text)
