"""Schemas as grammars, both ways: every text is a valid value, and every valid value has a text.

Two judges: jsonschema, and jsonschema-rs, which checks formats and reads patterns as ECMA-262 has them.
"""

import datetime
import functools
import ipaddress
import json
import random
import re
import uuid
from decimal import Decimal
from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.expressions import Rule
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.json import dumps
from bento_trtllm.grammar.lengths import longest
from bento_trtllm.grammar.schema import compile_schema
from tests.support.schemas import write

pytestmark = pytest.mark.slow

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


LESS = re.compile(r"(?<!\\)((?:\\\\)*)\\u003c")
"""`<` as an escape, which it is where a schema gives the text; where it leaves the text open, it stands as it is."""


def reaches(grammar: Grammar, text: str) -> bool:
    ending = Ending(grammar)
    first, *rest = LESS.split(text)
    if not ending.feed(first):
        return False
    for before, after in zip(rest[::2], rest[1::2], strict=True):
        if not ending.feed(before):
            return False
        mark = ending.mark()
        if not ending.feed("<"):
            ending.back(mark)
            if not ending.feed("\\u003c"):
                return False
        if not ending.feed(after):
            return False
    return ending.complete


def reachable(schema: Any, *values: Any) -> None:
    grammar = compile_schema(schema)
    for value in values:
        assert valid(schema, value), value
        assert reaches(grammar, written(value)), value


@functools.lru_cache(maxsize=64)
def compiled(schema: str) -> Grammar:
    return compile_schema(json.loads(schema))


def written(value: Any) -> str:
    """As json.dumps writes it, but numbers without an exponent."""
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(key)}: {written(item)}" for key, item in value.items()) + "}"
    return dumps(value)


def plain(number: float) -> str:
    return format(Decimal(repr(number)), "f")


def valid(schema: Any, value: Any) -> bool:
    judge = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, ignore_unknown_formats=True)
    return judge.is_valid(value)


def texts(schema: Any, count: int = 30, seed: int = 0) -> list[str]:
    """Texts of a schema's grammar, each of which is valid."""
    grammar = compiled(json.dumps(schema))
    rng = random.Random(seed)
    found = [write(grammar, rng, rng.choice((5, 50, 300))) for _ in range(count)]
    for text in found:
        assert valid(schema, json.loads(text)), text
        assert reaches(grammar, text), text
    return found


REACHABLE: dict[str, tuple[Any, list[Any]]] = {
    "above zero": ({"type": "number", "exclusiveMinimum": 0}, [19.99, 0.00001, 1, 123456789012345, 1.0, 0.1]),
    "a longitude": ({"type": "number", "minimum": -180, "maximum": 180}, [-0.1276, 180.0, -180, 0, -0.5, 179.999999]),
    "fractional bounds": ({"type": "number", "minimum": 0.1, "maximum": 0.9}, [0.1, 0.9, 0.10, 0.5, 0.11, 0.899]),
    "between -1 and 0": ({"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 0}, [-0.5, -0.999999, -0.001]),
    "integers in fractional bounds": ({"type": "integer", "minimum": -1.5, "exclusiveMaximum": 2.5}, [-1, 0, 1, 2]),
    "cents": ({"type": "number", "multipleOf": 0.01, "minimum": 0}, [0.5, 12.25, 7]),
    "hundreds": ({"type": "integer", "multipleOf": 100, "maximum": 1000}, [0, 100, 1000, -500]),
    "fives": ({"type": "integer", "multipleOf": 5, "minimum": -10, "maximum": 100}, [-10, 0, 95]),
    "sevens": ({"type": "number", "multipleOf": 3.5, "minimum": -20, "maximum": 20}, [-17.5, 0, 14]),
    "date": (
        {"type": "string", "format": "date"},
        ["2024-01-31", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
    ),
    "time": ({"type": "string", "format": "time"}, ["23:59:59Z", "00:00:00.123456+05:30"]),
    "date-time": ({"type": "string", "format": "date-time"}, ["1989-11-09T18:57:00.5-01:00"]),
    "duration": ({"type": "string", "format": "duration"}, ["P1Y2M3D", "PT90S", "P3W", "P1DT12H", "PT1H30M", "P0D"]),
    "email": (
        {"type": "string", "format": "email"},
        ["john.doe@example.com", "a+b_c@sub-1.example.co.uk", "O'Brien@x.io", "1@2.de"],
    ),
    "uuid": (
        {"type": "string", "format": "uuid"},
        ["0190163d-8694-739b-aea5-966c26f8ad91", "F47AC10B-58CC-4372-A567-0E02B2C3D479"],
    ),
    "hostname": ({"type": "string", "format": "hostname"}, ["localhost", "www.example.com", "a-1.b", "x" * 63 + ".de"]),
    "ipv4": ({"type": "string", "format": "ipv4"}, ["127.0.0.1", "255.255.255.255", "0.0.0.0", "10.20.30.40"]),
    "ipv6": (
        {"type": "string", "format": "ipv6"},
        ["::", "::1", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::ffff:192.0.2.1", "fe80::"],
    ),
    "uri": (
        {"type": "string", "format": "uri"},
        [
            "https://user:pw@example.com:8080/a/b%20c;x?q=1&r=%C3%A9#frag",
            "mailto:john@example.com",
            "urn:isbn:0451450523",
            "file:///etc/hosts",
            "http://[2001:db8::1]:80/",
            "https://example.com",
        ],
    ),
    "pydantic's HttpUrl": (
        {"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083},
        ["https://example.com/", "https://example.com/" + "a" * 2063],
    ),
    "a pattern": ({"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}$"}, ["AB-123", "XY-12345"]),
    "a pattern within": ({"type": "string", "pattern": "ab+c"}, ["abc", "xx abbbc\n", '"abc"', "\\abcabc"]),
    "a pattern with escapes": ({"type": "string", "pattern": '^["\\\\\\n<\\u0001-]+$'}, ['"\\\n', "<\u0001-", '"']),
    "a pattern of anything": ({"type": "string", "pattern": "^.+$", "maxLength": 4}, ["ab<c", '"\\"x', "é🦙", "\t"]),
    "a group with a name": ({"type": "string", "pattern": "^(?<year>\\d{4})$"}, ["2024"]),
    "alternatives": ({"type": "string", "pattern": "^a|b$|^(?:x|yy)?z$"}, ["a", "a!", "?b", "z", "yyz"]),
    "any value, described": (
        {"type": "object", "properties": {"a": {"description": "any value"}}},
        [{"a": {"b": [1, None]}}, {"a": "x"}, {}],
    ),
    "annotations of integers": (
        {"type": "integer", "format": "int32", "x-order": 1, "nullable": False, "title": "n", "examples": [1]},
        [5, -1],
    ),
    "annotations of strings": (
        {"type": "string", "contentMediaType": "application/json", "contentEncoding": "base64", "readOnly": True},
        ["", "x"],
    ),
    "names that are strings": ({"type": "object", "propertyNames": {"type": "string"}}, [{"a": 1}, {}]),
    "names of a pattern": (
        {"type": "object", "propertyNames": {"pattern": "^x-"}, "additionalProperties": {"type": "null"}},
        [{"x-a": None}, {}],
    ),
    "names and values of a pattern": (
        {"type": "object", "patternProperties": {"^[a-z]$": {"type": "integer"}}, "additionalProperties": False},
        [{"a": 1, "b": 2}, {}],
    ),
    "a password": ({"type": "string", "format": "password", "minLength": 1}, ["x"]),
    "names of an enum": (
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "boolean"}},
        [{"a": True, "b": False}, {}],
    ),
    "a reference into an array": (
        {
            "type": "object",
            "properties": {
                "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "b": {"$ref": "#/properties/a/anyOf/0"},
            },
        },
        [{"a": None, "b": 4}],
    ),
    "an encoded reference": (
        {"$ref": "#/$defs/My%20Model~1~0", "$defs": {"My Model/~": {"const": 1}}},
        [1],
    ),
    "an anchor": ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "null"}}}, [None]),
    "an address": (
        {
            "$id": "https://example.com/root.json",
            "type": "array",
            "items": {"anyOf": [{"$ref": "item.json"}, {"$ref": "https://example.com/root.json#/$defs/b"}]},
            "$defs": {"a": {"$id": "item.json", "$ref": "#/$defs/x", "$defs": {"x": {"const": 1}}}, "b": {"const": 2}},
        },
        [[1, 2], []],
    ),
    "a type beside anyOf": (
        {"type": "string", "anyOf": [{"maxLength": 2}, {"enum": ["long", 5]}, {"type": "integer"}]},
        ["ab", "long"],
    ),
    "properties beside oneOf": (
        {
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "required": ["id"],
            "oneOf": [
                {"properties": {"k": {"const": "a"}}, "required": ["k"]},
                {"properties": {"k": {"const": "b"}, "x": {"type": "null"}}, "required": ["k"]},
            ],
        },
        [{"id": 1, "k": "a"}, {"id": 1, "k": "b", "x": None}],
    ),
    "a reference with a type beside it": (
        {"$ref": "#/$defs/a", "type": "integer", "$defs": {"a": {"type": ["integer", "string"], "minimum": 3}}},
        [3, 77],
    ),
    "allOf of several": (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}},
            ]
        },
        [{"a": 5}, {"a": 6, "b": None}],
    ),
    "oneOf apart by required": (
        {
            "oneOf": [
                {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]},
            ]
        },
        [{"a": None}, {"b": None}],
    ),
    "oneOf of values and a type": (
        {"oneOf": [{"enum": ["a", "b"]}, {"type": "integer"}, {"const": None}]},
        ["a", 3, None],
    ),
    "recursion with something beside it": (
        {
            "$ref": "#/$defs/n",
            "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n", "type": ["object", "null"]}}}},
        },
        [{"n": {"n": {}}}],
    ),
    "unique items": (
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True},
        [["c", "a"], [], ["b"]],
    ),
    "a tuple with more": (
        {"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}], "items": {"type": "boolean"}},
        [[], [None], [None, 1], [None, 1, True, False]],
    ),
    "a few properties": (
        {
            "type": "object",
            "properties": {name: {"type": "null"} for name in "abcd"},
            "minProperties": 2,
            "maxProperties": 3,
        },
        [{"a": None, "d": None}, {"b": None, "c": None, "d": None}],
    ),
    "keywords of other types": ({"type": "string", "minimum": 5, "items": {"type": "null"}}, ["x"]),
    "keywords of several types, and no type": ({"minLength": 2, "minimum": 5}, ["xx", 5]),
    "enum beside bounds": ({"enum": [1, 5, 10, "x"], "type": ["integer", "string"], "minimum": 4}, [5, 10, "x"]),
}


@pytest.mark.parametrize(("schema", "values"), REACHABLE.values(), ids=REACHABLE.keys())
def test_values_are_reachable_and_texts_valid(schema: Any, values: list[Any]) -> None:
    if "multipleOf" not in schema:  # which doubles cannot judge
        texts(schema)
        reachable(schema, *values)
    for value in values:
        assert reaches(compiled(json.dumps(schema)), written(value)), value


REFUSED: dict[str, tuple[Any, str]] = {
    "a type beside anyOf of others": (
        {"type": "object", "anyOf": [{"type": "string"}, {"type": "integer"}]},
        "nothing",
    ),
    "nullable": ({"type": "string", "nullable": True}, "/nullable is not a keyword"),
    "several patterns of names": ({"patternProperties": {"a": {}, "b": {}}}, "/patternProperties is enforced with one"),
    "a pattern of names beside names": (
        {"properties": {"a": {}}, "patternProperties": {"b": {}}},
        "/patternProperties is not supported beside",
    ),
    "lookbehind": ({"type": "string", "pattern": "(?<!a)b"}, "lookbehind"),
    "a boundary": ({"properties": {"a": {"pattern": "\\bfoo"}}}, "/properties/a/pattern has \\b"),
    "a backreference": ({"type": "string", "pattern": "(a)\\1"}, "backreference"),
    "a property of Unicode": ({"type": "string", "pattern": "\\p{L}"}, "property of Unicode"),
    "a flag": ({"type": "string", "pattern": "(?i)a"}, "flag"),
    "an anchor within": ({"type": "string", "pattern": "a(^b)"}, "^ or $"),
    "a repetition of nothing": ({"type": "string", "pattern": "(a*)*"}, "may be empty"),
    "a long pattern with a length": ({"type": "string", "pattern": "^(.a)+$", "maxLength": 5}, "maxLength"),
    "a pattern too deep": ({"type": "string", "pattern": "(" * 1000 + ")" * 1000}, "deep"),
    "a pattern too large": ({"type": "string", "pattern": "((((a{99}){99}){99}){99}){99}"}, "too large"),
    "a pattern beside a format": ({"type": "string", "pattern": "a", "format": "date"}, "pattern"),
    "a format with another length": ({"type": "string", "format": "date", "maxLength": 5}, "maxLength"),
    "thirds": ({"type": "number", "multipleOf": 3}, "multipleOf"),
    "an endless number": ({"type": "number", "maximum": float("inf")}, "maximum"),
    "no number": ({"type": "number", "multipleOf": float("nan")}, "multipleOf"),
    "an endless length": ({"type": "string", "maxLength": float("inf")}, "maxLength"),
    "half a character": ({"enum": ["\ud83d"]}, "/enum/0 has half of a surrogate"),
    "half a name": ({"properties": {"\ud83d": {}}}, "surrogate"),
    "bounds beyond all digits": ({"type": "integer", "minimum": 10**15}, "no number"),
    "unique strings": ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
    "oneOf of objects alike": (
        {"oneOf": [{"type": "object", "properties": {"a": {}}, "required": ["a"]}, {"type": "object"}]},
        "oneOf",
    ),
    "an anchor that is not there": ({"$ref": "#nowhere"}, "refers to nothing"),
    "another document": ({"$id": "https://a.example/", "$ref": "b.json"}, "leads out"),
    "allOf of what is apart": ({"allOf": [{"type": "object"}, {"type": "array"}]}, "nothing"),
    "not beside enum": ({"enum": [1], "not": {}}, "/not is not supported beside enum"),
}


@pytest.mark.parametrize(("schema", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_supported_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(GrammarError) as error:
        compile_schema(schema)
    assert named in str(error.value)


@pytest.mark.parametrize(
    "form", ["date", "time", "date-time", "duration", "email", "uuid", "hostname", "ipv4", "ipv6", "uri"]
)
def test_texts_of_formats_are_valid(form: str) -> None:
    for text in texts({"type": "string", "format": form}, count=300):
        value = json.loads(text)
        match form:
            case "date":
                datetime.date.fromisoformat(value)
            case "ipv4" | "ipv6":
                ipaddress.ip_address(value)
            case "uuid":
                uuid.UUID(value)


@pytest.mark.parametrize(("form", "most"), [("hostname", 253), ("email", 254), ("ipv6", 45), ("uuid", 36)])
def test_no_text_of_a_format_is_too_long(form: str, most: int) -> None:
    """RFC 1035's, RFC 5321's, and the forms' own."""
    grammar = compiled(json.dumps({"type": "string", "format": form}))
    assert longest(Rule(ROOT), grammar.rules) <= most + len('""')


@quick
@given(st.dates())
def test_every_date_is_reachable(value: datetime.date) -> None:
    assert reaches(DATE, json.dumps(value.isoformat()))


@quick
@given(st.integers(1, 9999), st.integers(0, 13), st.integers(0, 32))
def test_no_other_date_is(year: int, month: int, day: int) -> None:
    try:
        datetime.date(year, month, day)
    except ValueError:
        assert not reaches(DATE, f'"{year:04}-{month:02}-{day:02}"')


def test_the_29th_of_february() -> None:
    for year in range(1, 10_000):
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if year % 7 == 0 or year % 100 == 0:
            assert reaches(DATE, f'"{year:04}-02-29"') == leap


DATE = compile_schema({"type": "string", "format": "date"})
ADDRESS = compile_schema({"type": "string", "format": "ipv6"})
MOMENT = compile_schema({"type": "string", "format": "date-time"})


@quick
@given(st.datetimes(timezones=st.timezones()))
def test_every_moment_is_reachable(value: datetime.datetime) -> None:
    offset = value.utcoffset()
    assume(offset is not None and not offset.total_seconds() % 60)
    assert reaches(MOMENT, json.dumps(value.isoformat()))


@quick
@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_reachable(value: ipaddress.IPv6Address) -> None:
    for text in (value.compressed, value.exploded, value.compressed.upper()):
        assert reaches(ADDRESS, json.dumps(text))


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.decimals(-1000, 1000, places=3).map(float),
    st.decimals(-2, 2, places=2).map(float),
    st.floats(-1e14, 1e14, allow_nan=False),
)
KEYS = st.lists(
    st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), unique=True, max_size=3
)


def digits(number: float) -> int:
    """How many a number has, zeros before the point included."""
    return len(plain(number).strip("-").replace(".", ""))


@quick
@given(st.data())
def test_numbers_within_bounds(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["number", "integer"]))
    schema = {"type": kind, **{key: data.draw(NUMBERS) for key in data.draw(KEYS)}}
    try:
        grammar = compile_schema(schema)
    except GrammarError:
        grammar = None
    else:
        texts(schema, count=10, seed=data.draw(st.integers(0, 1000)))
    near = [number for key, number in schema.items() if key != "type"]
    drawn = [data.draw(NUMBERS) for _ in range(5)]
    nearby = [float(f"{end + way:.12g}") for end in near for way in (-1, -0.001, 0, 0.001, 1)]  # type: ignore[operator]
    for value in (*drawn, *nearby):
        number = int(value) if kind == "integer" else value
        text = plain(number) if isinstance(number, float) else str(number)
        if digits(number) <= 15 and valid(schema, number) and jsonschema_says(schema, number):
            assert grammar, schema
            assert reaches(grammar, text), (schema, text)
        elif grammar:
            assert valid(schema, number) or not reaches(grammar, text), (schema, text)


def jsonschema_says(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


PATTERNS = [
    r"^\d{4}-\d{2}$",
    r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$",
    r"^(?:\+\d{1,3})? ?[\d ()-]{3,10}$",
    r"^#?([a-f0-9]{6}|[a-f0-9]{3})$",
    r"\w+\s\w+",
    r"^(foo|ba[rz]){2,3}$",
    r"^[\w.-]*$",
    r"^\$\{[A-Z_]+\}$",
    r"^a?b*c+?$",
    r"^$",
    r"x|^y$|z$",
    r"^[\u00e0-\u00ff\x41]+$",
    r"^[^\d\W]+$",
    r"^\S+\.(txt|md)$",
    r"^(\(\d+\))$",
    r"^(a|b)$|^c$",
    r'^"[^"]*"$',
    r"^[+-]?\d+(\.\d+)?$",
    r"^{x}$".replace("{x}", r"\{x\}"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_texts_of_patterns_are_valid(pattern: str) -> None:
    texts({"type": "string", "pattern": pattern}, count=60)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(quick, max_examples=8)
@given(data=st.data())
def test_strings_that_match_are_reachable(pattern: str, data: st.DataObject) -> None:
    value = data.draw(st.from_regex(re.compile(pattern, re.ASCII)))
    schema = {"type": "string", "pattern": pattern}
    assume(valid(schema, value))  # not what only Python means by \d and $
    assert reaches(compiled(json.dumps(schema)), dumps(value))


def objects(inner: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Schemas of objects, with a value of each."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Any, Any]:
        properties: dict[str, tuple[Any, Any]] = draw(st.dictionaries(st.text(max_size=4), inner, max_size=4))
        required = [name for name in properties if draw(st.booleans())]
        kept = {name for name in properties if name in required or draw(st.booleans())}
        value = {name: one for name, (_, one) in properties.items() if name in kept}
        schema: dict[str, Any] = {"type": "object", "properties": {n: s for n, (s, _) in properties.items()}}
        schema |= {"required": required} if required else {}
        if bool(properties) and draw(st.booleans()):
            schema |= {"minProperties": draw(st.integers(0, len(value))), "additionalProperties": False}
            schema["maxProperties"] = draw(st.integers(len(value), 6))
        return schema, value if properties else {}

    return drawn()


def arrays(inner: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Any, Any]:
        first = draw(st.lists(inner, max_size=2))
        schema, item = draw(inner)
        count = draw(st.integers(0, 3))
        value = [one for _, one in first] + [item] * count
        whole: dict[str, Any] = {"type": "array", "items": schema}
        if first:
            whole["prefixItems"] = [s for s, _ in first]
        whole |= {"minItems": draw(st.integers(0, len(value))), "maxItems": draw(st.integers(len(value), 6))}
        return whole, value

    return drawn()


@st.composite
def strings(draw: st.DrawFn) -> tuple[Any, Any]:
    value = draw(st.text(max_size=10))
    bounds = {"minLength": draw(st.integers(0, len(value))), "maxLength": draw(st.integers(len(value), 200))}
    return {"type": "string", **{key: count for key, count in bounds.items() if draw(st.booleans())}}, value


@st.composite
def combined(draw: st.DrawFn, inner: st.SearchStrategy[tuple[Any, Any]]) -> tuple[Any, Any]:
    """One of two schemas, together with one that says less, or beside what says nothing."""
    schema, value = draw(inner)
    other, _ = draw(inner)
    match draw(st.integers(0, 4)):
        case 0:
            return {"anyOf": draw(st.permutations([schema, other]))}, value
        case 1:
            kinds = schema.get("type", []) if isinstance(schema, dict) else []
            return {"anyOf": [schema, other], **({"type": kinds} if kinds else {})}, value
        case 2:
            return {"allOf": [schema, {"description": "the same"}]}, value
        case 3:
            return {"enum": [value, None, [1]], "title": "x", "default": 5}, value
    return {**schema, "x-a": 1, "examples": [1], "description": "d", "nullable": False}, value


SIMPLE = st.one_of(
    strings(),
    st.integers(-1000, 1000).map(lambda n: ({"type": "integer", "minimum": n - n % 7}, n)),
    st.decimals(-100, 100, places=2).map(float).map(lambda n: ({"type": "number", "maximum": n, "minimum": -100.5}, n)),
    st.sampled_from([({"type": "boolean"}, True), ({"type": "null"}, None), ({"type": ["null", "string"]}, "x")]),
    st.dates().map(lambda day: ({"type": "string", "format": "date"}, day.isoformat())),
    st.sampled_from([({}, {"a": [1, "x"]}), ({"type": "object"}, {"": None}), ({"type": "array"}, [[]])]),
)
SCHEMAS_WITH_VALUES = st.recursive(
    SIMPLE, lambda inner: st.one_of(objects(inner), arrays(inner), combined(inner)), max_leaves=8
)


@settings(quick, max_examples=300)
@given(SCHEMAS_WITH_VALUES, st.integers(0, 1000))
def test_schemas_both_ways(drawn: tuple[Any, Any], seed: int) -> None:
    schema, value = drawn
    assert valid(schema, value), "a mistake of this test"
    texts(schema, count=4, seed=seed)
    assert reaches(compiled(json.dumps(schema)), written(value)), (schema, value)


KEYWORDS = (
    *("type", "enum", "const", "properties", "required", "items", "prefixItems", "anyOf", "oneOf", "allOf", "not"),
    *("$ref", "$id", "$anchor", "$defs", "pattern", "format", "minimum", "maximum", "multipleOf", "minLength"),
    *("maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "propertyNames"),
    *("additionalProperties", "nullable", "x-a", "title"),
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(),
        st.text(max_size=5),
        st.sampled_from(["string", "#", "#/a", "object", "^a$", "(", "date", "number", "array", "integer"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(quick, max_examples=400)
@given(JSON)
def test_whatever_is_sent_is_a_grammar_or_refused(schema: Any) -> None:
    try:
        grammar = compile_schema(schema)
    except GrammarError:
        return
    json.loads(write(grammar, random.Random(0)))
