"""Schemas as grammars: every text of one is valid, and wherever a text is cut it can be ended."""

import gc
import json
import random
import sys
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.grammar import numbers
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.expressions import Choice, Concatenation, Expression, Literal, Rule
from bento_trtllm.grammar.grammar import MAX_SHORTEST, ROOT, Grammar, GrammarError
from bento_trtllm.grammar.lengths import ShortestLengths
from bento_trtllm.grammar.schema import compile_schema
from tests.support.schemas import ADMITTED, LARGE, SCHEMAS, Person, chain, nested, write

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def check(schema: Any, text: str) -> None:
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(value)


@pytest.mark.parametrize(("seed", "texts"), [(0, 15), pytest.param(1, 35, marks=pytest.mark.slow)])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_every_text_is_valid_and_can_be_ended_anywhere(schema: Any, seed: int, texts: int) -> None:
    grammar = compile_schema(schema)
    rng = random.Random(seed)
    for _ in range(texts):
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
        ({"type": "string", "pattern": "(?=a)b"}, "pattern has lookahead"),
        ({"type": "string", "pattern": "a{9999999999}"}, "pattern has a count over 128"),
        ({"type": "string", "pattern": "a{2," + "9" * 5000 + "}"}, "pattern has a count over 10000"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "array", "uniqueItems": True, "items": {}}, "uniqueItems"),
        ({"properties": {"a": {"not": {}}}}, "/properties/a/not"),
        ({"type": "number", "multipleOf": 2}, "multipleOf"),
        ({"type": "string", "format": "idn-hostname"}, "idn-hostname"),
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
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "type allows nothing"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "required"),
        ({"type": "object", "required": [5]}, "/required must be an array of names"),
        ({"properties": {"a": {"required": [None]}}}, "/properties/a/required must"),
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
    grammar = Grammar({ROOT: Choice(tuple(numbers.integers(low, high)))})
    ending = Ending(grammar)
    assert (ending.feed(str(value)) and ending.complete) == (low <= value <= high)


def test_long_counts_are_left_open_for_the_engine_only() -> None:
    schema = {"type": "array", "items": {"type": "string", "maxLength": 5000}, "maxItems": 500}
    grammar = compile_schema(schema)
    assert len(grammar.ebnf.splitlines()) < 20
    text = json.dumps(["x" * 5000])
    ending = Ending(grammar)
    assert ending.feed(text) and ending.complete
    ending = Ending(grammar)
    assert ending.feed(text[:-2])
    mark = ending.mark()
    assert not ending.feed("x")
    ending.back(mark)
    assert ending.shortest() == '"]'


@pytest.mark.parametrize(("schema", "named"), LARGE.values(), ids=LARGE.keys())
def test_a_schema_that_is_too_large_is_refused_by_its_part(schema: Any, named: str) -> None:
    with pytest.raises(GrammarError, match="too large") as error:
        compile_schema(schema)
    assert named in str(error.value)


@pytest.mark.parametrize("schema", ADMITTED.values(), ids=ADMITTED.keys())
def test_a_large_schema_costs_little(schema: Any) -> None:
    """In proportion to what a plain walk over it takes: comparing all pairs or writing out all lengths is far more."""
    gc.disable()  # a collection of all that a run of tests holds takes half a second
    try:
        began = time.process_time()
        for _ in range(20):
            json.loads(json.dumps(schema))
        walk = (time.process_time() - began) / 20
        took = []
        for _ in range(3):  # the best of them: others on this machine cost caches
            began = time.process_time()
            grammar = compile_schema(schema)
            took.append(time.process_time() - began)
            if took[-1] < 400 * walk + 0.25:
                break
        assert took[-1] < 400 * walk + 0.25
    finally:
        gc.enable()
    assert len(grammar.ebnf) < 100_000
    text = write(grammar, random.Random(0), patience=5000)
    check(schema, text)
    ending = Ending(grammar)
    assert ending.feed(text)
    assert ending.complete


def test_a_chain_of_references_may_be_long() -> None:
    grammar = compile_schema({"$ref": "#/$defs/d0", "$defs": chain(500)})
    assert json.loads(grammar.shortest(Rule(ROOT)))


def test_strings_of_all_lengths_share_one_chain() -> None:
    """An engine looks at its whole vocabulary for each place in a chain."""
    one = compile_schema({"type": "string", "maxLength": 100})
    many_ = compile_schema(ADMITTED["different lengths"])
    places = [grammar.ebnf.count("[^\\u0000") for grammar in (one, many_)]
    assert places[0] == places[1] == 100


def test_control_tokens_are_no_text_of_a_grammar() -> None:
    """An engine would take them for themselves."""
    for schema in ({"enum": ["<|eot_id|>"]}, {"const": {"<|eot_id|>": "</s>"}}, {"required": ["<|eot_id|>"]}):
        grammar = compile_schema(schema)
        assert "<" not in grammar.ebnf
        check(schema, grammar.shortest(Rule(ROOT)))


def test_a_branch_without_a_short_text_is_left_again() -> None:
    """It may stand beside one that has a short text."""
    endless = {"type": "object", "properties": {"a": {"$ref": "#/$defs/e"}}, "required": ["a"]}
    for branch in (nested(3, {}, minItems=128), {"$ref": "#/$defs/e"}):
        grammar = compile_schema({"anyOf": [{"type": "null"}, branch], "$defs": {"e": endless}})
        ending = Ending(grammar)
        assert ending.left == 4
        assert ending.feed("[" if "items" in branch else "{")
        assert ending.left > MAX_SHORTEST


def test_ebnf_has_no_counted_repetition_and_escapes_what_it_must() -> None:
    for schema in SCHEMAS.values():
        for line in compile_schema(schema).ebnf.splitlines():
            name, _, body = line.partition(" ::= ")
            assert name.replace("_", "").isalnum()
            assert body
            assert body.isascii()


def test_what_options_begin_with_is_written_once_and_short_ones_first() -> None:
    """Engines go astray otherwise: ebnf.py."""
    grammar = compile_schema({"type": "string", "pattern": "^([a-f]{6}|[a-f]{3}|x)$"})
    assert '("x" | [a-f] [a-f] [a-f] ("" | [a-f] [a-f] [a-f]))' in grammar.ebnf.replace("part1", '"x"')


def test_what_lengths_were_found_by_is_not_kept_with_a_grammar() -> None:
    part = Concatenation((Literal("a"), Rule("end")))
    rules: dict[str, Expression] = {ROOT: Choice((part, Literal("abc"))), "end": Literal("b")}
    known = sys.getrefcount(part)
    lengths = ShortestLengths(rules)
    assert lengths.of(part) == 2
    assert sys.getrefcount(part) == known
