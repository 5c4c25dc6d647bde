"""Structural tags: every text of ours has the form, and texts of that form can come and are never cut."""

import json
import random
import re
from typing import Any

import pytest

from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.grammar import Grammar, GrammarError
from bento_trtllm.grammar.schema import make_grammar
from bento_trtllm.grammar.structural_tags import structural_tag
from tests.support.schemas import write


def compiled(tag: Any) -> Grammar:
    return make_grammar(lambda rules: structural_tag(rules, tag))


def reaches(grammar: Grammar, text: str) -> bool:
    follower = Ending(grammar)
    return follower.feed(text) and follower.complete


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
TIME = {
    "type": "object",
    "properties": {"zone": {"enum": ["CET", "UTC"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
ANY = {"type": "any_text"}


def const(value: str) -> dict[str, Any]:
    return {"type": "const_string", "value": value}


def made(kind: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "elements" if isinstance(content, list) else "content": content, **fields}


def ebnf(text: str) -> dict[str, Any]:
    return {"type": "grammar", "grammar": text}


YES = const("yes")
WEATHER_TAG = {
    "type": "tag",
    "begin": "<function=weather>",
    "content": {"type": "json_schema", "json_schema": CITY},
    "end": "</function>",
}
TIME_TAG = {
    "type": "tag",
    "begin": "<function=time>",
    "content": {"type": "json_schema", "json_schema": TIME, "style": "json"},
    "end": ["</function>", "<end>"],
}
CALL, CALL_TIME = '<function=weather>{"city": "Kyiv"}</function>', '<function=time>{"zone": "UTC"}<end>'
TRIGGERED = {"type": "triggered_tags", "triggers": ["<function="], "tags": [WEATHER_TAG, TIME_TAG]}
THINK = {
    "type": "tag",
    "begin": "<think>",
    "content": {"type": "any_text", "excludes": ["</think>", "<function="]},
    "end": "</think>",
}
OLDER = {
    "structures": [
        {"begin": "<function=weather>", "schema": CITY, "end": "</function>"},
        {"begin": "<function=time>", "schema": TIME, "end": "</function>"},
    ],
    "triggers": ["<function="],
}
# A format, texts of it, texts that are none.
KNOWN: dict[str, tuple[Any, list[str], list[str]]] = {
    "text": (ANY, ["", "any é🦙\n"], []),
    "a constant": (YES, ["yes"], ["", "yes!"]),
    "JSON": ({"type": "json_schema", "json_schema": TIME}, ['{"zone": "UTC"}'], ["{}"]),
    "a grammar, twice": (
        made("sequence", [ebnf("root ::= a+\na ::= [ab]"), ebnf("root ::= a+\na ::= [cd]")]),
        ["abcd"],
        ["ba", "cdab"],
    ),
    "a regular expression": ({"type": "regex", "pattern": r"[A-Z]{2}-\d+"}, ["AB-12"], ["ab-12"]),
    "a sequence": (made("sequence", [YES, made("optional", YES), ANY]), ["yes", "yesyesno"], ["ye", "no"]),
    "either": (made("or", [YES, THINK]), ["yes", "<think>a</think>"], ["<think>yes", ""]),
    "repeated": (
        made(
            "sequence",
            [
                made("star", const("a")),
                made("plus", const("b")),
                made("repeat", const("c"), min=1, max=2),
                made("repeat", const("d"), min=0, max=-1),
            ],
        ),
        ["aabbcc", "bcddd"],
        ["ac", "bccc", "abd"],
    ),
    "a tag": (
        THINK,
        ["<think></think>", "<think>a < b </thin</think>"],
        ["<think>", "<think></think>a", "<think><function=</think>"],
    ),
    "text with tags": (
        TRIGGERED,
        ["", "Hi <func", f"I say {CALL} and{CALL_TIME}{CALL}!", "a</function>"],
        ["<function=", "<function=other>", f"{CALL}<function=weather>", CALL.replace("Kyiv", "Kyiv, the city")],
    ),
    "one tag": ({**TRIGGERED, "stop_after_first": True}, ["Hi", f"Hi {CALL}"], [f"{CALL}!"]),
    "at least one tag": (
        {**TRIGGERED, "at_least_one": True},
        [CALL, f"{CALL_TIME} and {CALL}."],
        ["", "Hi", f"Hi {CALL}"],
    ),
    "exactly one tag": (
        {**TRIGGERED, "at_least_one": True, "stop_after_first": True},
        [CALL, CALL_TIME],
        ["", CALL + CALL],
    ),
    "tags in a tag": (
        {"type": "tag", "begin": "<answer>", "content": TRIGGERED, "end": "</answer>"},
        [f"<answer>a {CALL} b</answer>", "<answer></answer>"],
        ["<answer>", f"<answer></answer>{CALL}"],
    ),
    "a thought, then tags": (
        made("sequence", [THINK, {**TRIGGERED, "excludes": ["<think>"]}]),
        [f"<think>hm</think>{CALL}", "<think></think><thin"],
        [CALL, "<think></think><think></think>"],
    ),
    "tags side by side": (
        {"type": "tags_with_separator", "tags": [WEATHER_TAG, TIME_TAG], "separator": ", "},
        ["", CALL, f"{CALL}, {CALL_TIME}, {CALL}"],
        [CALL + CALL, f"{CALL}, "],
    ),
    "one at the side": (
        {
            "type": "tags_with_separator",
            "tags": [TIME_TAG],
            "separator": "\n",
            "at_least_one": True,
            "stop_after_first": True,
        },
        [CALL_TIME],
        ["", f"{CALL_TIME}\n{CALL_TIME}"],
    ),
    "dispatch": (
        {"type": "dispatch", "rules": [["<a>", YES], ["<ab", const("no")]], "excludes": ["b!"]},
        ["x<a>yes<abnob", "<a", "b"],
        ["<a>no", "<ab", "ab!"],
    ),
    "dispatch once": ({"type": "dispatch", "rules": [["<a>", YES]], "loop": False}, ["x<a>yes", "x"], ["<a>yes!"]),
}


@pytest.mark.parametrize("name", [*KNOWN, "older"])
def test_formats_both_ways(name: str) -> None:
    form, good, bad = KNOWN["text with tags" if name == "older" else name]
    if name == "older":
        grammar, good = (
            compiled({"type": "structural_tag", **OLDER}),
            [one.replace("<end>", "</function>") for one in good],
        )
    else:
        grammar = compiled({"type": "structural_tag", "format": form})
    rng = random.Random(3)
    for one in [*good, *(write(grammar, rng, rng.choice((5, 60))) for _ in range(15))]:
        assert reaches(grammar, one), one
        for end in range(len(one[:80])) if one in good else range(rng.randrange(3), len(one[:80]), 3):
            follower = Ending(grammar)
            assert follower.feed(one[:end]), one[:end]
            assert reaches(grammar, one[:end] + follower.shortest())
    for one in bad:
        assert not reaches(grammar, one), one


def test_parts_that_end_with_one_of_many_characters_are_repeated_as_an_automaton() -> None:
    parts = [{"type": "regex", "pattern": pattern} for pattern in ("[^a]", "b?")]
    grammar = compiled({"format": made("sequence", [made("plus", made("sequence", parts)), const("a.")])})
    assert 'state2_1 ::= "" | [^a] state2_1\n' in grammar.ebnf
    assert all(reaches(grammar, one) for one in ("ba.", "cbba.", "cca."))
    assert not any(reaches(grammar, one) for one in ("a.", "ca", "cab"))


def test_what_is_in_a_tag_is_valid() -> None:
    grammar = compiled({"format": {**TRIGGERED, "at_least_one": True}})
    rng = random.Random(5)
    found = 0
    for _ in range(60):
        text = write(grammar, rng, 100)
        follower = Ending(grammar)
        cut = text[: rng.randint(1, len(text))]
        assert follower.feed(cut)
        for name, content in re.findall(
            r"<function=(\w*)>?(.*?)(?:</function>|<end>|$)", cut + follower.shortest(), re.DOTALL
        ):
            assert [*json.loads(content)] == [{"weather": "city", "time": "zone"}[name]]
            found += 1
    assert found > 30


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "must have a format, or else structures and triggers"),
    "both forms": ({"format": ANY, **OLDER}, "must have a format, or"),
    "a token": ({"format": {"type": "token", "token": 5}}, "/format/type is 'token': it must be one of const_string"),
    "a token's end": (
        {"format": {**THINK, "end": {"type": "token", "token": 5}}},
        "/format/end must be a text: single tokens",
    ),
    "a budget": ({"format": {**ANY, "max_tokens": 0}}, "/format/max_tokens is not supported"),
    "another style": (
        {"format": {"type": "json_schema", "json_schema": CITY, "style": "qwen_xml"}},
        "/format/style is not supported",
    ),
    "no text": ({"format": {"type": "const_string"}}, "/format/value must be a text"),
    "no format": ({"format": {"type": "optional", "content": "x"}}, "/format/content must be an object with a type"),
    "text without an end": (
        {"format": {"type": "sequence", "elements": [ANY, YES]}},
        "/format/elements/0 has no end of its own",
    ),
    "text in a repetition": ({"format": made("star", ANY)}, "/format/content has no end of its own"),
    "text before an empty end": ({"format": {**THINK, "end": ""}}, "/format/content has no end of its own"),
    "what may be empty": (
        {"format": {"type": "plus", "content": made("optional", YES)}},
        "/format/content may be empty",
    ),
    "a schema": (
        {"format": {**THINK, "content": {"type": "json_schema", "json_schema": {"not": {}}}}},
        "/format/content: /not is not supported",
    ),
    "a grammar": ({"format": ebnf("root ::= a")}, "/format: line 1, column 10: there is no rule a"),
    "a pattern": ({"format": {"type": "regex", "pattern": "(?=a)"}}, "lookahead"),
    "no trigger": (
        {"format": {**TRIGGERED, "triggers": ["<tool="]}},
        "/format/tags/0/begin must begin with one of the triggers",
    ),
    "two triggers": (
        {"format": {**TRIGGERED, "triggers": ["<", "<function="]}},
        "/format/tags/0/begin .* with only one",
    ),
    "a trigger for nothing": (
        {**OLDER, "triggers": ["<function=", "<tool="]},
        "no tag begins with the trigger '<tool='",
    ),
    "an empty trigger": ({**OLDER, "triggers": [""]}, "/triggers must be texts that are not empty"),
    "a structure": ({**OLDER, "structures": [{"begin": "<"}]}, "/structures/0 must have begin, schema and end"),
    "counts": ({"format": made("repeat", YES, min=3, max=2)}, "/format/min and max must be integers"),
    "large counts": ({"format": made("repeat", YES, min=300, max=-1)}, "at most 128 may be required"),
    "repetitions of repetitions": (
        {"format": made("plus", made("repeat", made("plus", YES), min=1, max=9))},
        "it has a repetition in a repetition",
    ),
    "repetitions of a pattern's": (
        {"format": made("plus", made("plus", {"type": "regex", "pattern": "([^a]b?)+"}))},
        "it has a repetition in a repetition",
    ),
    "a flag": ({"format": {**TRIGGERED, "at_least_one": 1}}, "/format/at_least_one must be true or false"),
    "an end that begins": (
        {"format": {**THINK, "content": TRIGGERED, "end": "<function="}},
        "both as a beginning and as an end",
    ),
    "an end that cannot come": (
        {"format": {**THINK, "content": {**ANY, "excludes": ["</"]}}},
        "excludes what is in '</think>'",
    ),
    "long triggers": (
        {"format": {"type": "dispatch", "rules": [["x" * 100, YES]]}},
        "what else is looked for in text is too long",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_where(name: str) -> None:
    tag, message = REFUSED[name]
    with pytest.raises(GrammarError, match=message):
        compiled(tag)
