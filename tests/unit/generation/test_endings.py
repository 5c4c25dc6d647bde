"""JSON is never cut: whatever the number of tokens, an answer that follows a grammar is whole. On single bytes."""

import json
from functools import lru_cache
from typing import Any

import pytest

from bento_trtllm.generation.errors import InvalidRequest
from bento_trtllm.generation.results import Finish, TextDelta
from bento_trtllm.grammar.grammar import Grammar
from bento_trtllm.grammar.schema import compile_schema
from tests.support.scripted_source import END, ScriptedSource, Stage, ask
from tests.support.virtual_time import run

OBJECT = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "tags"],
    "additionalProperties": False,
}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "any object": ({"type": "object"}, {"a": [1, {"b": "c"}], "d": None}),
    "required fields": (OBJECT, {"name": "Ünï 🦙", "tags": ["x", "yy"]}),
    "a string": ({"type": "string"}, 'a "quoted" \\ word'),
    "an array": ({"type": "array", "items": {"type": "integer"}}, [1, 23, -456, 7]),
    "a choice": ({"enum": ["yes", "no", {"maybe": True}]}, {"maybe": True}),
    "nested": ({"type": "array", "items": OBJECT}, [{"name": "", "tags": []}] * 2),
}


@lru_cache
def _compiled(schema: str) -> Grammar:
    return compile_schema(json.loads(schema))


async def answer(text: str, schema: dict[str, Any], max_tokens: int, batch: int, end: bool) -> tuple[str, Finish]:
    """The text of an engine that writes this text, as long as it may."""
    made = [*text.encode(), *([END] if end else [])][:max_tokens]
    stage = Stage(ScriptedSource(*(made[i : i + batch] for i in range(0, len(made), batch))))
    items = [
        item async for item in stage.generator.stream(ask(max_tokens=max_tokens, grammar=_compiled(json.dumps(schema))))
    ]
    finish = items.pop()
    assert isinstance(finish, Finish)
    assert stage.observer.outcomes == [finish.reason]
    stage.check_nothing_is_held()
    return "".join(item.text for item in items if isinstance(item, TextDelta)), finish


@pytest.mark.parametrize("batch", [1, 5, 1000])
@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_whole_with_any_number_of_tokens(name: str, batch: int) -> None:
    schema, value = CASES[name]
    text = json.dumps(value, ensure_ascii=False)
    whole = len(text.encode()) + 1
    shortest = None
    for max_tokens in range(1, whole + 3):
        try:
            found, finish = run(answer(text, schema, max_tokens, batch, end=True))
        except InvalidRequest as error:
            assert error.field == "max_tokens" and shortest is None
            continue
        shortest = shortest or max_tokens
        json.loads(found)
        assert finish.usage.completion_tokens <= max_tokens
        if max_tokens >= whole:
            assert (found, finish.reason, finish.usage.completion_tokens) == (text, "stop", whole)
        else:
            assert finish.reason in ("length", "stop")
            assert finish.reason == "length" or found == text
    assert shortest is not None and shortest < whole


@pytest.mark.parametrize("name", CASES)
def test_an_engine_that_stops_in_the_middle_leaves_no_half(name: str) -> None:
    """It may take a control token for its text, and end with it."""
    schema, value = CASES[name]
    text = json.dumps(value, ensure_ascii=False)
    for length in range(len(text) + 1):
        found, finish = run(answer(text[:length], schema, 1000, 3, end=True))
        json.loads(found)
        assert finish.reason == ("stop" if found == text[:length] else "length")


def test_a_request_that_could_only_be_cut_is_refused_before_it_takes_a_slot() -> None:
    async def main() -> None:
        stage = Stage(ScriptedSource(b"{}"))
        with pytest.raises(InvalidRequest, match="shortest answer of this form takes 24 tokens: allow more than 23"):
            async for _ in stage.generator.stream(ask(max_tokens=23, grammar=compile_schema(OBJECT))):
                pass
        assert stage.source.requests == [] and stage.observer.streams == []
        assert stage.observer.refusals == ["invalid_request"]

    run(main())


def test_what_leaves_the_grammar_is_ended_where_it_left() -> None:
    found, finish = run(answer('{"a": 1} and more', {"type": "object"}, 100, 4, end=True))
    assert (json.loads(found), finish.reason) == ({"a": 1}, "length")


def test_stop_strings_do_not_cut_it() -> None:
    async def main() -> str:
        stage = Stage(ScriptedSource(b'{"stop": 1}', [END]))
        request = ask(grammar=compile_schema({"type": "object"}), stop=("stop",))
        items = [item async for item in stage.generator.stream(request)]
        return "".join(item.text for item in items if isinstance(item, TextDelta))

    assert json.loads(run(main())) == {"stop": 1}
