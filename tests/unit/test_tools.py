"""Tool calls out of text that comes in pieces."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.api.tools.calls import CallableTool, CallDelta
from bento_trtllm.api.tools.llama3 import MAX_CALLS, ToolCallParser, calls
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.json import Rules
from tests.support.schemas import write

NAMES = {"get_weather", "add"}


WHOLE_AND_IN_CHARACTERS: tuple[list[int] | None, ...] = (None, [])


def parse(text: str, cuts: list[int] | None = None, *, several: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """The content of a message and its calls, from a text cut into pieces."""
    parser = ToolCallParser(NAMES, several=several)
    at = [0, *sorted(cuts if cuts is not None else range(1, len(text))), len(text)]
    deltas = [delta for start, end in pairwise(at) for delta in parser.feed(text[start:end])]
    deltas += parser.finish()
    content = "".join(delta for delta in deltas if isinstance(delta, str))
    found: list[tuple[str, str]] = []
    ids = set()
    for delta in deltas:
        if isinstance(delta, CallDelta):
            if delta.id:
                assert delta.index == len(found)
                ids.add(delta.id)
                found.append((delta.name or "", ""))
            name, arguments = found[delta.index]
            found[delta.index] = name, arguments + delta.arguments
    assert len(ids) == len(found)
    return content, found


CALL = '{"name": "get_weather", "parameters": {"city": "Ky\\"i{v", "days": [1, {"a": 2}]}}'
ARGUMENTS = '{"city": "Ky\\"i{v", "days": [1, {"a": 2}]}'


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"\n {CALL}\n",
        CALL.replace("parameters", "arguments"),
        CALL.replace('"name"', '"type": "function", "name"'),
        CALL.replace('"name"', '"type":"function","function"'),
        f"[{CALL}]",
    ],
)
def test_forms_of_one_call(text: str) -> None:
    for cuts in WHOLE_AND_IN_CHARACTERS:
        assert parse(text, cuts) == ("", [("get_weather", ARGUMENTS)])


@pytest.mark.parametrize("between", ["\n", "; ", ", ", ""])
def test_several_calls(between: str) -> None:
    add = '{"name": "add", "parameters": {}}'
    text = between.join([CALL, add, CALL])
    expected = [("get_weather", ARGUMENTS), ("add", "{}"), ("get_weather", ARGUMENTS)]
    for cuts in WHOLE_AND_IN_CHARACTERS:
        assert parse(text, cuts) == ("", expected)
        assert parse(text, cuts, several=False) == ("", expected[:1])


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "",
        " leading space",
        "{",
        "{}",
        '{"name": "unknown", "parameters": {}}',
        '{"name": "get_weather"',
        '{"name": "get_weather", "parameters": ',
        '{"name": "get_weather", "parameters": "text"}',
        '{"names": ["a"]}',
        '{"parameters": {}, "name": "add"}',
        '{"a": 1}',
        "[1, 2]",
        'Use {"name": "add", "parameters": {}} for that',
    ],
)
def test_other_text_comes_through_as_it_is(text: str) -> None:
    for cuts in WHOLE_AND_IN_CHARACTERS:
        assert parse(text, cuts) == (text, [])


def test_text_is_not_held_back() -> None:
    parser = ToolCallParser(NAMES)
    assert parser.feed("Hel") == ["Hel"]
    assert parser.feed('lo {"name"') == ['lo {"name"']
    assert parser.feed(' \n{"name') == []
    assert parser.feed('d"') == [' \n{"named"']


@pytest.mark.parametrize(
    ("text", "words", "count"),
    [
        (f"Let me see.\n\n{CALL}", "Let me see.", 1),
        (f"{CALL}\nDone.", "Done.", 1),
        (f"So:\n{CALL}\n{CALL}\n\nDone.\n", "So:\n\nDone.", 2),
        (f"So:\n- {CALL}", f"So:\n- {CALL}", 0),
        (f'{{"a": 1}}\n{CALL}', '{"a": 1}', 1),
        (f"[{CALL}] and more", "and more", 1),
    ],
)
def test_words_around_calls_are_kept(text: str, words: str, count: int) -> None:
    for cuts in WHOLE_AND_IN_CHARACTERS:
        said, found = parse(text, cuts)
        assert (said, len(found)) == (words, count)


def test_arguments_come_as_they_are_written() -> None:
    parser = ToolCallParser(NAMES)
    (opened,) = parser.feed('{"name": "add", "parameters": ') + parser.feed("{")[:1]
    assert isinstance(opened, CallDelta)
    assert opened.name == "add"
    assert parser.feed('"a": 1') == [CallDelta(0, '"a": 1')]
    assert parser.feed("}}") == [CallDelta(0, "}")]


@given(st.lists(st.integers(0, len(CALL) * 2), max_size=6))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    text = f"{CALL}\n{CALL}"
    cuts = [cut for cut in cuts if cut <= len(text)]
    assert parse(text, cuts) == parse(text, [])


TOOLS: list[CallableTool] = [
    CallableTool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
    CallableTool("add", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}),
]


@pytest.mark.parametrize("several", [True, False])
def test_every_text_of_the_grammar_is_calls(several: bool) -> None:
    rules = Rules()
    root = calls(rules, TOOLS, several=several)
    grammar = Grammar({ROOT: root, **rules.rules})
    rng = random.Random(0)
    counts = set()
    for _ in range(100):
        content, found = parse(write(grammar, rng))
        assert not content
        assert 1 <= len(found) <= (MAX_CALLS if several else 1)
        counts.add(len(found))
        for name, arguments in found:
            values: dict[str, Any] = json.loads(arguments)
            assert values.keys() <= ({"city"} if name == "get_weather" else {"a", "b"})
            assert name == "add" or isinstance(values["city"], str)
    assert (len(counts) > 1) == several


def test_parameters_that_cannot_be_enforced_are_refused() -> None:
    with pytest.raises(GrammarError, match="pattern"):
        calls(
            Rules(),
            [CallableTool("f", {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}})],
            several=False,
        )
