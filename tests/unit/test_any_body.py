"""Whatever JSON comes to any route: an answer, or an error that names what is wrong, and never a 500.

In one process, on a scripted model. `/generate`, whose body BentoML reads again, is in tests/service/test_bad_input.py.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bento_trtllm.metrics import routes
from tests.support.demo import MODEL
from tests.support.scripted_app import ScriptedApp

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
TAG = {
    "type": "sequence",
    "elements": [
        {"type": "regex", "pattern": "a+"},
        {"type": "grammar", "grammar": 'root ::= "b"'},
        {"type": "tag", "begin": "<", "content": {"type": "any_text", "excludes": ["x"]}, "end": [">"]},
    ],
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
WHOLE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
            {"role": "assistant", "content": "u", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "logit_bias": {"5": -100},
        "stop": ["x"],
        "stop_token_ids": [7],
        "max_tokens": 40,
        "seed": 1,
        "temperature": 0.5,
        "top_k": 3,
        "stream": False,
        "metadata": {"k": "v"},
        "chat_template_kwargs": {"k": 1},
    },
    "/v1/completions": {"model": MODEL, "prompt": [[1, 2], [3]], "max_tokens": 2, "n": 1, "logprobs": 0, "echo": False,
                        "structured_outputs": {"structural_tag": {"format": TAG}}, "stop": "x"},
    "/v1/responses": {
        "model": MODEL,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": "auto",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        "max_output_tokens": 40,
    },
    "/v1/messages": {
        "model": MODEL,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1"}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "max_tokens": 40,
        "stop_sequences": ["x"],
    },
    "/v1/messages/count_tokens": {"model": MODEL, "messages": [{"role": "user", "content": "t"}]},
    "/tokenize": {"model": MODEL, "prompt": "t"},
    "/detokenize": {"model": MODEL, "tokens": [1, 2]},
}  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"items": [value]}
    return value


ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**64, 10**400, 1e-320, float("nan"), float("inf"), "", "\0", "\ud83d", "9" * 5000),
    *([], {}, [[]], [None], {"": None}, {"\udc00": 1}, {"9" * 5000: 1}, ["x"] * 300, nested(60), nested(300)),
    *({"$ref": "#"}, {"type": "array", "items": {"$ref": "#"}}, '{"a": "\\ud83d"}', '{"a": 1e400}', '{"a":' * 500),
    *("<|eot_id|>", [{"type": "text", "text": "\udfff"}], {"type": "image_url", "image_url": {"url": "x"}}),
]


def places(value: Any, at: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """The paths of all values in a body."""
    if at:
        yield at
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in steps:
        yield from places(item, (*at, step))


def put(body: Any, at: tuple[int | str, ...], value: Any) -> Any:
    """The body with another value in a place."""
    copy = json.loads(json.dumps(body))
    here = copy
    for step in at[:-1]:
        here = here[step]
    here[at[-1]] = value
    return copy


async def check(client: httpx.AsyncClient, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    response = await client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 404), (response.text, body)
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["message"] and len(error["message"]) <= 1000
        assert "Traceback" not in response.text
    # Strict JSON in UTF-8, whatever was sent.
    json.dumps(response.text, ensure_ascii=False).encode()


def test_every_route_is_here() -> None:
    assert WHOLE.keys() == set(routes.JSON) - {"/generate"}


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2))])
@pytest.mark.parametrize("path", WHOLE)
def test_a_body_with_something_odd_in_one_place(path: str, part: int) -> None:
    async def all_places() -> None:
        async with ScriptedApp('{"a": 1}').client() as client:
            await check(client, path, WHOLE[path])
            for i, at in enumerate(places(WHOLE[path])):
                # Each place gets a third of them, neighbours another one; a third of that in each part.
                for value in ODD[i % 3 + 3 * part :: 9]:
                    await check(client, path, put(WHOLE[path], at, value))

    asyncio.run(all_places())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(ODD)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@pytest.mark.slow
@pytest.mark.parametrize("path", WHOLE)
def test_any_json_in_some_places(path: str) -> None:
    app = ScriptedApp("Hello")
    paths = list(places(WHOLE[path]))

    async def once(body: Any) -> None:
        async with app.client() as client:
            await check(client, path, body)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(paths), VALUES, st.sampled_from([at for at in paths if len(at) == 1]), VALUES)
    def some(first: Any, value: Any, second: Any, other: Any) -> None:
        asyncio.run(once(put(put(WHOLE[path], first, value), second, other)))

    some()
