"""/v1/messages on a scripted model: what is asked, what is said, and in which order."""

import json
from typing import Any

import pytest

from bento_trtllm.generation.errors import EngineUnavailable, QueueFull
from tests.support.demo import TEMPLATE, TOKENIZER
from tests.support.scripted_app import ScriptedApp, typed_events

URL = "/v1/messages"
HI = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"name": "get_weather", "description": "The weather in a city", "input_schema": SCHEMA}
DESCRIBED = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": SCHEMA},
}
CALL = '{"name": "get_weather", "parameters": {"city": "Kyiv"}}'


def ask(**fields: Any) -> dict[str, Any]:
    return {"messages": [HI], "max_tokens": 100, **fields}


async def stream(app: ScriptedApp, **fields: Any) -> list[dict[str, Any]]:
    """The events of an answer, which must say their types twice."""
    response = await app.post(URL, ask(stream=True, **fields))
    assert response.status_code == 200, response.text
    events = [(kind, json.loads(data)) for kind, data in typed_events(response.text)]
    assert all(event["type"] == kind for kind, event in events)
    return [event for _, event in events]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Their types, those of deltas once in a row."""
    found: list[str] = []
    for event in events:
        if not (event["type"] == "content_block_delta" and found[-1] == event["type"]):
            found.append(event["type"])
    return found


BLOCK = ["content_block_start", "content_block_delta", "content_block_stop"]
END = ["message_delta", "message_stop"]


async def test_text_comes_in_the_order_of_anthropic() -> None:
    events = await stream(ScriptedApp("Hello, you"))
    assert kinds(events) == ["message_start", *BLOCK, *END]
    start = events[0]["message"]
    prompt = len(TEMPLATE.chat([HI]))
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert (start["usage"]["input_tokens"], start["usage"]["output_tokens"]) == (prompt, 0)
    assert "".join(event["delta"]["text"] for event in events if event["type"] == BLOCK[1]) == "Hello, you"
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == len(TOKENIZER.encode_text("Hello, you")) + 1


async def test_calls_are_blocks_of_their_own() -> None:
    app = ScriptedApp(f"{CALL}\n{CALL}")
    events = await stream(app, tools=[WEATHER])
    assert kinds(events) == ["message_start", *BLOCK, *BLOCK, *END]
    begun = [event["content_block"] for event in events if event["type"] == BLOCK[0]]
    assert [(block["type"], block["name"], block["input"]) for block in begun] == [("tool_use", "get_weather", {})] * 2
    parts = [event["delta"] for event in events if event["type"] == BLOCK[1] and event["index"] == 1]
    assert {part["type"] for part in parts} == {"input_json_delta"}
    assert json.loads("".join(part["partial_json"] for part in parts)) == {"city": "Kyiv"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    whole = (await app.post(URL, ask(tools=[WEATHER]))).json()
    assert [block["input"] for block in whole["content"]] == [{"city": "Kyiv"}] * 2
    assert whole["stop_reason"] == "tool_use"
    assert len({block["id"] for block in whole["content"]}) == 2


async def test_arguments_that_are_no_json_are_shown_as_they_are() -> None:
    broken = ScriptedApp('{"name": "get_weather", "parameters": {"city": Kyiv}}')
    # Where stop strings go, there is no grammar.
    whole = (await broken.post(URL, ask(tools=[WEATHER], stop_sequences=["zzz"]))).json()
    assert whole["content"][0]["input"] == {"INVALID_JSON": '{"city": Kyiv}'}


@pytest.mark.parametrize(
    ("fields", "reason", "sequence"),
    [
        ({}, "end_turn", None),
        ({"max_tokens": 2}, "max_tokens", None),
        ({"stop_sequences": ["zzz", "you"]}, "stop_sequence", "you"),
    ],
)
async def test_the_end_is_told(fields: dict[str, Any], reason: str, sequence: str | None) -> None:
    app = ScriptedApp("Hello, you there")
    whole = (await app.post(URL, ask(**fields))).json()
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    events = await stream(app, **fields)
    assert events[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert events[-2]["usage"] == whole["usage"]
    assert ("you" in whole["content"][0]["text"]) == (reason == "end_turn")


async def test_what_the_context_holds_is_answered() -> None:
    """Clients of theirs ask for more tokens than many models' contexts hold."""
    asked = ask(max_tokens=32_000)
    whole = (await ScriptedApp("Hello").post(URL, asked)).json()
    assert whole["stop_reason"] == "end_turn"
    full = ScriptedApp(*[[97]] * 5000)
    cut = (await full.post(URL, asked)).json()
    assert cut["stop_reason"] == "model_context_window_exceeded"
    assert cut["usage"]["output_tokens"] == full.source.requests[0].max_tokens == 4096 - len(TEMPLATE.chat([HI]))
    prompt = {"role": "user", "content": "word " * 4096}
    assert (await full.post(URL, asked | {"messages": [prompt]})).status_code == 400


async def test_errors_are_anthropics_whoever_refuses() -> None:
    app = ScriptedApp("Hello", EngineUnavailable("The engine stopped."))
    events = await stream(app)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"] == {"type": "overloaded_error", "message": "The engine stopped."}
    for script, status, kind in (
        (EngineUnavailable("No engine."), 503, "overloaded_error"),
        (QueueFull("Too many."), 429, "rate_limit_error"),
        (RuntimeError("?"), 500, "api_error"),
    ):
        response = await ScriptedApp(script).post(URL, ask(stream=True))
        assert response.status_code == status
        assert (response.json()["type"], response.json()["error"]["type"]) == ("error", kind)
        assert ("Retry-After" in response.headers) == (status in (429, 503))
    async with app.client() as client:
        for method, path, status, kind in (
            ("POST", URL, 400, "invalid_request_error"),
            ("GET", URL, 405, "invalid_request_error"),
            ("POST", f"{URL}/batches", 404, "not_found_error"),
        ):
            response = await client.request(method, path, content=b"{", headers={"content-type": "application/json"})
            assert response.status_code == status
            assert (response.json()["type"], response.json()["error"]["type"]) == ("error", kind)
    response = await app.post(URL, ask(model="claude"))
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")


def block(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


USED = block("tool_use", id="toolu_1", name="get_weather", input={"city": "Kyiv"})
READ = {"id": "toolu_1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Kyiv"}}}
RESULT = {"role": "tool", "tool_call_id": "toolu_1", "name": "get_weather", "content": "Sunny"}
GIVEN = block("tool_result", tool_use_id="toolu_1", content=[block("text", text="Sunny")])
SAID: list[dict[str, Any]] = [HI, {"role": "assistant", "content": "So", "tool_calls": [READ]}]
TURNS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "text": ({"messages": [HI]}, [HI]),
    "system": (
        {"system": [block("text", text="Be", cache_control={"type": "ephemeral"}), block("text", text="brief")]},
        [{"role": "system", "content": "Be\n\nbrief"}, HI],
    ),
    "turns of one role": ({"messages": [HI, HI]}, [{"role": "user", "content": "Hi\n\nHi"}]),
    "a call and its result": (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": [block("text", text="So"), USED]},
                {"role": "user", "content": [GIVEN, block("text", text="And?")]},
            ]
        },
        [*SAID, RESULT, {"role": "user", "content": "And?"}],
    ),
    "an error": (
        {
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [block("redacted_thinking", data="x"), block("text", text="So"), USED],
                },
                {"role": "user", "content": [GIVEN | {"is_error": True}]},
            ]
        },
        [*SAID, RESULT | {"content": "Error: Sunny"}],
    ),
}


@pytest.mark.parametrize("name", TURNS)
async def test_blocks_become_messages(name: str) -> None:
    fields, messages = TURNS[name]
    app = ScriptedApp("Yes")
    assert (await app.post(URL, ask(**fields, tools=[WEATHER]))).status_code == 200
    expected = TEMPLATE.chat(messages, tools=[DESCRIBED])
    assert app.source.requests[0].input_ids == expected
    count = await app.post(f"{URL}/count_tokens", {"messages": [HI], **fields, "tools": [WEATHER]})
    assert count.json() == {"input_tokens": len(expected)}


async def test_a_last_turn_of_the_assistant_is_continued() -> None:
    app = ScriptedApp("you")
    whole = await app.post(URL, ask(messages=[HI, {"role": "assistant", "content": "Hello,"}]))
    assert whole.json()["content"][0]["text"] == "you"
    asked = app.source.requests[0].input_ids
    assert asked == [*TEMPLATE.chat([HI]), *TOKENIZER.encode_text("Hello,")]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": ({"max_tokens": None}, "max_tokens"),
    "a picture": ({"messages": [{"role": "user", "content": [block("image", source={})]}]}, "messages[0].content[0]"),
    "a tool of Anthropic's": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    "a result of the assistant": ({"messages": [{"role": "assistant", "content": [GIVEN]}]}, "tool_result"),
    "a call of the user": ({"messages": [{"role": "user", "content": [USED]}]}, "tool_use"),
    "a call without its result": ({"messages": [HI, {"role": "assistant", "content": [USED]}]}, "tool_result"),
    "a tool that is not there": ({"tools": [WEATHER], "tool_choice": block("tool", name="f")}, "tool_choice"),
    "an unknown field": ({"n": 2}, "n: "),
    "too hot": ({"temperature": 1.5}, "temperature"),
    "a form that cannot be": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
        "output_config.format",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(name: str) -> None:
    fields, words = REFUSED[name]
    response = await ScriptedApp("Yes").post(URL, ask(**fields))
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]["message"]


async def test_what_a_coding_agent_sends_is_taken() -> None:
    """Claude Code's fields, as far as they change nothing here."""
    fields = ask(
        system=[block("text", text="You are.", cache_control={"type": "ephemeral"})],
        tools=[WEATHER | {"type": "custom", "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}],
        metadata={"user_id": "u"},
        thinking={"type": "adaptive", "display": "summarized"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "high"},
        tool_choice=None,
        stream=True,
    )
    assert (await ScriptedApp("Yes").post(f"{URL}?beta=true", fields)).status_code == 200
