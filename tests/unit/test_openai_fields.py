"""Fields of OpenAI's requests on a scripted model: taken, refused by name, or as good as absent."""

import json
from typing import Any

import pytest

from tests.support.scripted_app import ScriptedApp

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
PROMPT: dict[str, Any] = {"prompt": "Hi", "max_tokens": 4}
KEPT = {"cache_control": {"type": "ephemeral"}}
CALL = '{"name": "get_time", "parameters": {"zone": "UTC"}}'
PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
FUNCTION = {"name": "get_time", "parameters": PARAMETERS}

INERT: list[dict[str, Any]] = [
    {"reasoning_effort": "low", "verbosity": "low", "prediction": {"type": "content", "content": "x"}},
    {"prompt_cache_key": "a", "prompt_cache_retention": "24h", "prompt_cache_options": {}, "cache_control": {}},
    {"service_tier": "flex", "safety_identifier": "a", "store": False, "metadata": {"a": "b"}, "modalities": ["text"]},
    {"user": "a", "priority": 1, "request_id": "a", "length_penalty": 1.0, "use_beam_search": False},
    {"include_reasoning": True, "add_special_tokens": False, "best_of": 1},
    {"spaces_between_special_tokens": True, "detokenize": True, "logits_processors": [], "bad_words": []},
    {"messages": [{"role": "system", "content": "x", **KEPT}, {"role": "user", "content": "Hi", **KEPT}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **KEPT}]}]},
    {"tools": [{"type": "function", "function": {"name": "f", "description": None, "strict": None}, **KEPT}]},
]


@pytest.mark.parametrize("fields", INERT, ids=lambda fields: next(iter(fields)))
async def test_what_changes_nothing_is_taken(fields: dict[str, Any]) -> None:
    plain, other = ScriptedApp("Hello"), ScriptedApp("Hello")
    without = {name: value for name, value in fields.items() if name in ("messages", "tools")}
    without = json.loads(json.dumps(without).replace(f", {json.dumps(KEPT)[1:-1]}", ""))
    for app, body in ((plain, without), (other, fields)):
        response = await app.post(CHAT, {**HI, **body})
        assert response.status_code == 200, response.text
    assert other.source.requests == plain.source.requests


OPENAI = [
    *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens"),
    *("max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty"),
    *("prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed"),
    *("service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools"),
    *("top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
]
"""The fields of openai 3.57 (types/chat/completion_create_params.py) that may be left out."""


async def test_null_is_as_good_as_absent() -> None:
    app, plain = ScriptedApp("Hello"), ScriptedApp("Hello")
    call = {"id": "a", "type": None, "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hi", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "audio": None},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]
    response = await app.post(CHAT, {**HI, **dict.fromkeys(OPENAI), "messages": messages, "max_tokens": 4})
    assert response.status_code == 200, response.text
    del call["type"]
    assert (await plain.post(CHAT, {"messages": messages, "max_tokens": 4})).status_code == 200
    assert app.source.requests == plain.source.requests


MISSING = [
    ({"messages": None}, "messages"),
    ({"model": None}, "model"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"tools": [{"type": "function", "function": None}]}, "tools[0].function"),
]


@pytest.mark.parametrize(("fields", "param"), MISSING)
async def test_null_where_something_must_be(fields: dict[str, Any], param: str) -> None:
    await refused(CHAT, {**HI, **fields}, param, "missing_required_parameter", "required")


async def refused(path: str, body: dict[str, Any], param: str, code: str, words: str) -> None:
    response = await ScriptedApp("Hello").post(path, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert words in error["message"]


WRONG: list[tuple[str, dict[str, Any], str, str, str]] = [
    (CHAT, {"stop": ["a"] * 17}, "stop", "invalid_value", "it has 17, and may have at most 16"),
    (CHAT, {"stop": ""}, "stop", "invalid_value", "must not be empty"),
    (CHAT, {"stop": 5}, "stop", "invalid_type", "a valid string or a valid list"),
    (CHAT, {"messages": []}, "messages", "invalid_value", "must not be empty"),
    (COMPLETIONS, {"prompt": []}, "prompt", "invalid_value", "must not be empty"),
    (COMPLETIONS, {"prompt": [[1], []]}, "prompt[1]", "invalid_value", "must not be empty"),
    (COMPLETIONS, {"prompt": ["a"] * 129}, "prompt", "invalid_value", "it has 129, and may have at most 128"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value", "stream: true"),
    (COMPLETIONS, {"stream_options": {}, "stream": False}, "stream_options", "invalid_value", "stream: true"),
    (CHAT, {"banana": 1}, "banana", "unknown_parameter", "not known"),
    (CHAT, {"store": True}, "store", "unsupported_value", "nothing is kept"),
    (CHAT, {"audio": {"voice": "a"}}, "audio", "unsupported_value", "only text is made"),
    (CHAT, {"web_search_options": {}}, "web_search_options", "unsupported_value", "the web is not searched"),
    (CHAT, {"use_beam_search": True}, "use_beam_search", "unsupported_value", "beam"),
    (CHAT, {"max_tokens": 5000}, "max_tokens", "context_length_exceeded", "maximum context length is 4096 tokens"),
    (COMPLETIONS, {"prompt": "a b " * 4000}, "prompt", "context_length_exceeded", "maximum context length"),
    (CHAT, {"tool_choice": "required"}, "tool_choice", "invalid_value", "needs tools"),
    (CHAT, {"functions": [FUNCTION], "tools": [{"type": "function", "function": FUNCTION}]}, "functions",
     "invalid_value", "not both"),
    (CHAT, {"function_call": "auto"}, "function_call", "invalid_value", "needs functions"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields", "param", "code", "words"), WRONG)
async def test_what_is_wrong_is_named(path: str, fields: dict[str, Any], param: str, code: str, words: str) -> None:
    await refused(path, {**(HI if path == CHAT else PROMPT), **fields}, param, code, words)


async def test_unknown_fields_may_be_ignored() -> None:
    app = ScriptedApp("Hello", ignore_unknown=True)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi", "x": 1}], "stream_options": {"y": 2}}
    response = await app.post(CHAT, {**body, "stream": True, "banana": {"z": 3}})
    assert response.status_code == 200, response.text
    assert (await app.post(COMPLETIONS, {**PROMPT, "banana": 1})).status_code == 200
    response = await app.post(CHAT, {**HI, "banana": 1, "temperature": "hot"})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "temperature", "invalid_type")


async def test_functions_are_read_as_tools_and_answered_as_functions() -> None:
    app, plain = ScriptedApp(CALL), ScriptedApp(CALL)
    old = {"messages": [*HI["messages"]], "functions": [FUNCTION], "function_call": {"name": "get_time"}}
    new = {
        "messages": [*HI["messages"]],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "get_time"}},
    }
    choice = (await app.post(CHAT, old)).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_time", "arguments": '{"zone": "UTC"}'}
    assert "tool_calls" not in choice["message"]
    await plain.post(CHAT, new)
    assert app.source.requests == plain.source.requests

    streamed = (await app.post(CHAT, {**old, "stream": True})).text
    chunks = [json.loads(line[6:])["choices"][0] for line in streamed.split("\n") if line.startswith("data: {")]
    calls = [chunk["delta"]["function_call"] for chunk in chunks if "function_call" in chunk["delta"]]
    assert calls[0]["name"] == "get_time"
    assert "".join(call["arguments"] for call in calls) == '{"zone": "UTC"}'
    assert chunks[-1]["finish_reason"] == "function_call"
    assert "tool_calls" not in streamed


async def test_a_function_that_was_called_is_in_the_prompt() -> None:
    app, plain = ScriptedApp("Hello"), ScriptedApp("Hello")
    function = {"name": "get_time", "arguments": '{"zone": "UTC"}'}
    old = [
        {"role": "assistant", "content": None, "function_call": function},
        {"role": "function", "name": "get_time", "content": "12"},
    ]
    new = [
        {"role": "assistant", "tool_calls": [{"id": "call_0", "type": "function", "function": function}]},
        {"role": "tool", "name": "get_time", "tool_call_id": "call_0", "content": "12"},
    ]
    for asked, messages in ((app, old), (plain, new)):
        response = await asked.post(CHAT, {"messages": [*HI["messages"], *messages], "max_tokens": 4})
        assert response.status_code == 200, response.text
    assert app.source.requests == plain.source.requests
