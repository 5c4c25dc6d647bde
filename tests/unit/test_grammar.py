"""Schemas as grammars: every text of one is valid, and wherever a text is cut it can be ended."""

import json
import random
from datetime import datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from bento_trtllm.grammar import integers
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.grammar import ROOT, Characters, Choice, Expression, Grammar, GrammarError, Literal, Rule
from bento_trtllm.grammar.schema import compile_schema


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
        "properties": {
            name: {"type": "string", "format": name} for name in ("date", "time", "date-time", "uuid", "ipv4", "email")
        },
        "required": ["date", "time", "date-time", "uuid", "ipv4", "email"],
    },
    "odd keys": {"type": "object", "properties": {'a"b\\\n': {"type": "null"}, "": {"type": "null"}}, "required": [""]},
}


def write(grammar: Grammar, rng: random.Random, patience: int = 200) -> str:
    """A random text of a grammar; after so many steps the shortest that is left."""
    text: list[str] = []
    todo: list[Expression] = [Rule(ROOT)]
    while todo:
        part = todo.pop()
        patience -= 1
        if patience < 0:
            text.append(grammar.shortest(part))
        elif isinstance(part, Literal):
            text.append(part.text)
        elif isinstance(part, Characters):
            low, high = rng.choice(part.ranges)
            text.append(rng.choice("aZ é世🦙/'") if part.negated else chr(rng.randint(ord(low), ord(high))))
        elif isinstance(part, Rule):
            todo.append(grammar.rules[part.name])
        elif isinstance(part, Choice):
            todo.append(rng.choice(part.options))
        else:
            todo += reversed(part.parts)
    return "".join(text)


def check(schema: Any, text: str) -> None:
    value = json.loads(text)
    jsonschema.validate(value, schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_every_text_is_valid_and_can_be_ended_anywhere(schema: Any) -> None:
    grammar = compile_schema(schema)
    rng = random.Random(0)
    for _ in range(50):
        text = write(grammar, rng)
        check(schema, text)
        ending = Ending(grammar)
        at = 0
        while at <= len(text):
            check(schema, text[:at] + ending.shortest())
            step = rng.randint(1, 12)
            assert ending.feed(text[at : at + step]), text[: at + step]
            at += step
        assert ending.complete


def test_pydantic_reads_every_answer() -> None:
    grammar = compile_schema(Person.model_json_schema())
    rng = random.Random(1)
    for _ in range(200):
        Person.model_validate_json(write(grammar, rng))


def test_a_text_that_leaves_the_grammar_is_noticed() -> None:
    assert not Ending(compile_schema({"type": "object"})).feed('{"a": tru!')
    assert not Ending(compile_schema({"type": "object"})).feed("[")


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "array", "uniqueItems": True, "items": {}}, "uniqueItems"),
        ({"properties": {"a": {"not": {}}}}, "/properties/a/not"),
        ({"type": "number", "multipleOf": 2}, "multipleOf"),
        ({"type": "string", "format": "hostname"}, "hostname"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "http://example.com"}, "$ref"),
        ({"$ref": "#"}, "$ref"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "$ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "nothing finite"),
        ({"enum": []}, "enum"),
        ({"type": "string", "enum": [1]}, "enum"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no number"),
        ({"type": "string", "maxLength": 10**9}, "maxLength"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "maxLength"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"allOf": [{}, {}]}, "allOf"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "required"),
        (False, "schema"),
        ([], "schema"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(GrammarError) as error:
        compile_schema(schema)
    assert named in str(error.value)


@given(st.integers(-(10**6), 10**6), st.integers(0, 2000), st.integers(-(10**6) - 3000, 10**6 + 3000))
def test_integers_between_bounds(low: int, span: int, value: int) -> None:
    high = low + span
    if abs(value - low) > 5000:
        value = low + value % 3000 - 500
    grammar = Grammar({ROOT: Choice(tuple(integers.between(low, high)))})
    ending = Ending(grammar)
    assert (ending.feed(str(value)) and ending.complete) == (low <= value <= high)


def test_long_counts_are_left_open_for_the_engine_only() -> None:
    schema = {"type": "array", "items": {"type": "string", "maxLength": 5000}, "maxItems": 500}
    grammar = compile_schema(schema)
    assert len(grammar.guide) < 20
    text = json.dumps(["x" * 5000])
    ending = Ending(grammar)
    assert ending.feed(text) and ending.complete
    ending = Ending(grammar)
    assert ending.feed(text[:-2])
    mark = ending.mark()
    assert not ending.feed("x")
    ending.back(mark)
    assert ending.shortest() == '"]'


def test_a_schema_that_is_too_large_is_refused() -> None:
    for schema in (
        {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": 100 - i} for i in range(50)}},
        {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(3000)}},
    ):
        with pytest.raises(GrammarError, match="too large"):
            compile_schema(schema)


def test_ebnf_has_no_counted_repetition_and_escapes_what_it_must() -> None:
    for schema in SCHEMAS.values():
        for line in compile_schema(schema).ebnf().splitlines():
            name, _, body = line.partition(" ::= ")
            assert name.replace("_", "").isalnum()
            assert body
            assert body.isascii()
