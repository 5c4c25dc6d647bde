"""Calls in each of the formats, out of text that comes in pieces; each call that a grammar forces can be read."""

import json
import random
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.api.tools.calls import CallableTool, CallDelta
from bento_trtllm.api.tools.formats import AUTO, FORMATS, choose
from bento_trtllm.api.tools.llama3 import MAX_CALLS
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.schema import make_grammar
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support import chat_templates
from tests.support.schemas import write

CITY: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
    "required": ["city"],
}
TOOLS = (CallableTool("get_weather", CITY), CallableTool("add", {"type": "object", "additionalProperties": False}))
WHOLE_AND_IN_CHARACTERS: tuple[list[int] | None, ...] = ([], None)
Read = tuple[str, list[tuple[str, Any]]]


def parse(name: str, text: str, cuts: list[int] | None = None, *, several: bool = True) -> Read:
    """The words of an answer and its calls, arguments as values where they are JSON."""
    parser = FORMATS[name].parser(TOOLS, several=several)
    at = [0, *sorted(cuts if cuts is not None else range(1, len(text))), len(text)]
    deltas = [delta for start, end in pairwise(at) for delta in parser.feed(text[start:end])]
    deltas += parser.finish()
    found: list[tuple[str, str]] = []
    for delta in deltas:
        if isinstance(delta, CallDelta):
            if delta.id:
                assert delta.index == len(found)
                found.append((delta.name or "", ""))
            known, arguments = found[delta.index]
            found[delta.index] = known, arguments + delta.arguments
    assert parser.calls == len(found)
    return "".join(delta for delta in deltas if isinstance(delta, str)), [(n, value(text)) for n, text in found]


def value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


KYIV = ("get_weather", {"city": "Ky{i]v", "days": [1, -2]})
ADD: tuple[str, Any] = ("add", {})
HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ky{i]v", "days": [1, -2]}}\n</tool_call>'
HERMES_ADD = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nKy{i]v\n</parameter>\n<parameter=days>\n[1, -2]\n"
    "</parameter>\n</function>\n</tool_call>"
)
LISTED = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Ky{i]v", "days": [1, -2]}}'
NAMED = '[TOOL_CALLS]get_weather[ARGS]{"city": "Ky{i]v", "days": [1, -2]}'
PYTHON = "[get_weather(city='Ky{i]v', days=[1, -2])"
CASES: list[tuple[str, str, Read]] = [
    ("hermes", HERMES, ("", [KYIV])),
    ("hermes", f"Let me see.\n{HERMES}\n{HERMES_ADD}\nDone.", ("Let me see.\nDone.", [KYIV, ADD])),
    ("hermes", HERMES.replace("\n", ""), ("", [KYIV])),
    ("hermes", HERMES.removesuffix("</tool_call>"), ("", [KYIV])),
    ("hermes", "a < b <tool", ("a < b <tool", [])),
    ("hermes", " <tool_call> no", (" <tool_call> no", [])),
    (
        "hermes",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        ('<tool_call>{"name": "other", "arguments": {}}</tool_call>', []),
    ),
    ("hermes", '<tool_call>\n{"name": "ad', ('<tool_call>\n{"name": "ad', [])),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a', ("", [("add", '{"a')])),
    ("hermes", "plain ", ("plain ", [])),
    ("qwen", HERMES, ("", [KYIV])),
    ("qwen", f"So:\n\n{CODER}\n{CODER}", ("So:", [KYIV, KYIV])),
    ("qwen", CODER.replace("get_weather", "other"), (CODER.replace("get_weather", "other"), [])),
    ("qwen", "<tool_call>\n<function=add>\n</function>", ("", [ADD])),
    ("qwen", CODER.replace("</parameter>\n</function>", "</function>"), ("", [KYIV])),
    ("mistral", f"{LISTED}]", ("", [KYIV])),
    ("mistral", f'Well. {LISTED}, {{"name": "add", "arguments": {{}}}}] Yes.', ("Well. Yes.", [KYIV, ADD])),
    ("mistral", f"{NAMED}[TOOL_CALLS]add{{}}", ("", [KYIV, ADD])),
    ("mistral", NAMED.replace("[ARGS]", "[CALL_ID]abc123[ARGS]"), ("", [KYIV])),
    ("mistral", "[TOOL_CALLS]other{}", ("[TOOL_CALLS]other{}", [])),
    ("mistral", "[1, 2] [TOOL", ("[1, 2] [TOOL", [])),
    ("pythonic", f"{PYTHON}]", ("", [KYIV])),
    ("pythonic", f"\n{PYTHON}, add()]", ("", [KYIV, ADD])),
    ("pythonic", "[get_weather(city='a', days=true)]", ("", [("get_weather", {"city": "a", "days": True})])),
    ("pythonic", "[other(a=1)]", ("[other(a=1)]", [])),
    ("pythonic", "[add(1)] is", ("[add(1)] is", [])),
    ("pythonic", "[add(a=open('x'))]", ("[add(a=open('x'))]", [])),
    ("pythonic", "[1, 2]", ("[1, 2]", [])),
    ("pythonic", PYTHON, (PYTHON, [])),
    ("pythonic", '{"name": "add", "parameters": {}}', ("", [ADD])),
    ("pythonic", "Hello", ("Hello", [])),
]


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_calls_and_words_whole_and_in_characters(name: str, text: str, expected: Read) -> None:
    assert parse(name, text, []) == expected
    assert parse(name, text) == expected


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200), max_size=6))
def test_cuts_change_nothing(case: tuple[str, str, Read], cuts: list[int]) -> None:
    name, text, expected = case
    assert parse(name, text, [cut for cut in cuts if cut <= len(text)]) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", f"{HERMES_ADD}\n{HERMES}"),
        ("qwen", f"{HERMES_ADD}\n{CODER}"),
        ("mistral", f"[TOOL_CALLS]add{{}}{NAMED}"),
        ("mistral", LISTED.replace("[{", '[{"name": "add", "arguments": {}}, {', 1) + "]"),
        ("pythonic", PYTHON.replace("[", "[add(), ", 1) + "]"),
    ],
)
def test_one_call_where_several_are_not_wanted(name: str, text: str) -> None:
    for cuts in WHOLE_AND_IN_CHARACTERS:
        assert parse(name, text, cuts, several=False) == ("", [ADD])


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_grammar_forces_can_be_read(name: str, several: bool) -> None:
    grammar = make_grammar(lambda rules: FORMATS[name].calls(rules, TOOLS, several=several))
    rng = random.Random(0)
    for _ in range(50):
        words, found = parse(name, write(grammar, rng))
        assert words == ""
        assert 1 <= len(found) <= (MAX_CALLS if several else 1)
        for called, arguments in found:
            assert arguments == {} if called == "add" else isinstance(arguments["city"], str)


BEGUN = {
    "llama3": 'So:\n {"name": "get_weather", "parameters": {',
    "hermes": 'So: <tool_call>\n{"name": "get_weather", "arguments": {"ci',
    "mistral": 'So: [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Ky',
    "qwen": "So: <tool_call>\n<function=get_weather>\n<parameter=ci",
    "pythonic": "So:\n[add(), get_weather(city=",
}
# Those without a mark before a call: its beginning with the name of no tool is words.
UNMARKED = ("llama3", "pythonic")
WORDS = ["", "Hello", "a < b <tool", '{"a": 1}', '{"names": [', 'Use {"name": "add"}', "[1] [TOOL", "\n<think>"]


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_what_begins_as_a_call_is_one_and_words_are_free(name: str, several: bool) -> None:
    grammar = make_grammar(lambda rules: FORMATS[name].auto(rules, TOOLS, several=several))
    for words in WORDS:
        ending = Ending(grammar)
        assert ending.feed(words) and ending.complete, words
        assert parse(name, words) == (words, [])
    begun = BEGUN[name] if several else BEGUN[name].replace("add(), ", "")
    ending = Ending(grammar)
    assert ending.feed(begun) and not ending.complete
    said, found = parse(name, begun + ending.shortest())
    assert said == "So:"
    called, arguments = found[-1]
    assert called == "get_weather"
    jsonschema.validate(arguments, CITY)
    # With nothing before it either, and whatever comes after it.
    ending = Ending(grammar)
    assert ending.feed(begun.removeprefix("So:").lstrip())
    rest = ending.shortest()
    if several:
        assert ending.feed(f"{rest}\n{begun}")
        said, found = parse(name, begun.removeprefix("So:").lstrip() + rest + "\n" + begun + ending.shortest())
        assert (said, len(found)) == ("So:", 4 if name == "pythonic" else 2)
    rng = random.Random(0)
    for _ in range(100):
        for called, arguments in parse(name, write(grammar, rng))[1]:
            jsonschema.validate(arguments, dict(TOOLS)[called])
    assert Ending(grammar).feed(BEGUN[name].replace("get_weather", "other").replace("add", "none")) == (
        name in UNMARKED
    )


# What Python or Qwen's tags have no form for, or have another one for than JSON.
ODD: tuple[tuple[dict[str, object], list[str]], ...] = (
    ({"type": "object"}, ["pythonic", "qwen"]),
    ({"type": "object", "properties": {}}, []),
    ({"type": "object", "properties": {"from-to": {"type": "integer"}}}, ["pythonic"]),
    ({"type": "object", "properties": {"a>b": {"type": "integer"}}}, ["pythonic", "qwen"]),
    ({"type": "object", "properties": {"class": {"type": "boolean"}, "x": {"type": "null"}}, "required": ["x"]}, []),
    ({"type": "object", "properties": {"s": {"type": "string", "minLength": 2}}}, ["qwen"]),
    ({"type": "object", "properties": {"s": {"enum": ["a", "b c"], "type": "string"}}}, []),
    ({"type": "object", "properties": {"s": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}}}, []),
    ({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string", "maxLength": 3}}}}, []),
    ({"$defs": {"x": {"type": "number"}}, "type": "object", "properties": {"s": {"$ref": "#/$defs/x"}}}, []),
    ({"anyOf": [{"type": "object"}]}, ["pythonic", "qwen"]),
)


@pytest.mark.parametrize("name", ["pythonic", "qwen"])
def test_each_tool_has_a_form(name: str) -> None:
    """That of JSON where the format has none of its own, and calls in either are read with arguments as they were."""
    rng = random.Random(1)
    made = FORMATS[name]
    for schema, in_json in ODD:
        tools = (CallableTool("f", schema), CallableTool("g-2", {"type": "object", "properties": {}}))
        forced = make_grammar(partial(made.calls, tools=tools, several=True))
        auto = make_grammar(partial(made.auto, tools=tools, several=True))
        for grammar in [forced] * 10 + [auto] * 5:
            text = write(grammar, rng)
            parser = made.parser(tools, several=True)
            found = [delta for delta in (*parser.feed(text), *parser.finish()) if isinstance(delta, CallDelta)]
            names = [delta.name for delta in found if delta.name]
            for i, called in enumerate(names):
                arguments = "".join(delta.arguments for delta in found if delta.index == i)
                jsonschema.validate(json.loads(arguments), dict(tools)[called])
            if grammar is forced:
                assert names
                assert ('"name": "f"' in text) == (name in in_json and "f" in names)


def test_texts_between_tags_are_as_they_are() -> None:
    """With what looks like tags in them; and in JSON a tag within a string ends nothing."""
    text = (
        '<tool_call>\n<function=get_weather>\n<parameter=city>\n\na <parameter=x> </function> "\n\n</parameter>\n'
        '<parameter=days>\n["</parameter>", "</function>"]\n</parameter>\n</function>\n</tool_call> yes'
    )
    expected = (
        "yes",
        [("get_weather", {"city": '\na <parameter=x> </function> "\n', "days": ["</parameter>", "</function>"]})],
    )
    for cuts in WHOLE_AND_IN_CHARACTERS:
        assert parse("qwen", text, cuts) == expected


@pytest.mark.parametrize("count", [1, 5, 60])
def test_many_tools_are_told_apart_by_few_letters(count: int) -> None:
    """Each place of any character costs an engine."""
    tools = [
        CallableTool(f"{chr(97 + i % 26)}_tool_number_{i}", {"type": "object", "properties": {}}) for i in range(count)
    ]
    for name in UNMARKED:
        grammar = make_grammar(partial(FORMATS[name].auto, tools=tools, several=True))
        assert grammar.ebnf.count("[^") < 120
        ending = Ending(grammar)
        begin = '{"name": "%s"' if name == "llama3" else "[%s("
        assert ending.feed(begin % tools[-1].name) and not ending.complete
        assert ending.feed(ending.shortest()) and ending.complete


def test_words_are_not_held_back() -> None:
    parser = FORMATS["hermes"].parser(TOOLS, several=True)
    assert parser.feed("Hel") == ["Hel"]
    assert parser.feed("lo <") == ["lo"]
    assert parser.feed("b") == [" <b"]
    parser.feed('<tool_call>{"name": "add", "arguments": {')
    assert parser.feed('"a": 1') == [CallDelta(0, '"a": 1')]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ '<|python_tag|>' }}", "llama3"),
        ("{{ '[TOOL_CALLS]' + x }}", "mistral"),
        ('<tool_call>\n{"name": <function-name>}', "hermes"),
        ("<tool_call>\n<function=example>", "qwen"),
        ("[func_name1(params_name1=params_value1)]", "pythonic"),
        ("", "llama3"),
    ],
)
def test_a_template_says_how_calls_are_written(source: str, name: str) -> None:
    assert choose(AUTO, ["other", source]).name == name
    assert choose("hermes", [source]).name == "hermes"


def test_marks_that_are_control_tokens_are_shown(tmp_path: Path) -> None:
    """Of what a model writes; in what a user writes they are plain characters as ever."""
    mark = "[TOOL_CALLS]"
    directory = chat_templates.write(tmp_path / "tokenizer")
    plain, shown = (PromptTokenizer(directory, shown=marks) for marks in ((), FORMATS["mistral"].marks))
    assert (plain.decode([shown.special_ids[mark]]), shown.decode([shown.special_ids[mark]])) == ("", mark)
    assert shown.encode(mark) == [shown.special_ids[mark]]
    assert shown.special_ids[mark] not in shown.encode(shown.protect(mark))
