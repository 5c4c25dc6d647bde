"""/v1/responses on a scripted model: what is asked, what is said, and in which order."""

import json
from typing import Any

import pytest

from bento_trtllm.generation.errors import EngineUnavailable
from tests.support.demo import TEMPLATE
from tests.support.scripted_app import ScriptedApp, typed_events

URL = "/v1/responses"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
DESCRIBED = {"type": "function", "function": {key: value for key, value in WEATHER.items() if key != "type"}}
CALL = '{"name": "get_weather", "parameters": {"city": "Kyiv"}}'


async def stream(app: ScriptedApp, **body: Any) -> list[dict[str, Any]]:
    """The events of an answer, which must say their types twice and count without a gap."""
    response = await app.post(URL, {"input": "Hi", "stream": True, **body})
    assert response.status_code == 200, response.text
    events = []
    for kind, data in typed_events(response.text):
        events.append(json.loads(data))
        assert events[-1]["type"] == kind
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Their types, those of deltas once in a row."""
    found: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if not (kind.endswith("delta") and found and found[-1] == kind):
            found.append(kind)
    return found


BEGIN = ["created", "in_progress"]
TEXT = ["output_item.added", "content_part.added", "output_text.delta"]
TEXT += ["output_text.done", "content_part.done", "output_item.done"]
CALLED = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]


async def test_text_comes_in_the_order_of_openai() -> None:
    events = await stream(ScriptedApp("Hello, you"))
    assert kinds(events) == [*BEGIN, *TEXT, "completed"]
    assert "".join(event["delta"] for event in events if "delta" in event) == "Hello, you"
    assert [event["text"] for event in events if "text" in event] == ["Hello, you"]
    last = events[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "Hello, you"
    assert last["status"] == last["output"][0]["status"] == "completed"
    assert (last["store"], last["error"], last["incomplete_details"]) == (False, None, None)
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == [] and events[0]["response"]["usage"] is None


async def test_a_whole_response_is_that_of_the_stream() -> None:
    app = ScriptedApp(f"{CALL}\n{CALL}")
    body = {"input": "Hi", "tools": [WEATHER]}
    whole = (await app.post(URL, body)).json()
    streamed = (await stream(app, **body))[-1]["response"]
    made = ("id", "created_at", "completed_at", "call_id")

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key not in made}
        return [bare(item) for item in value] if isinstance(value, list) else value

    assert bare(whole) == bare(streamed)
    assert [item["arguments"] for item in whole["output"]] == ['{"city": "Kyiv"}'] * 2
    assert len({item["call_id"] for item in whole["output"]}) == 2


async def test_calls_are_items_of_their_own() -> None:
    events = await stream(ScriptedApp(f"{CALL}\n{CALL}"), tools=[WEATHER])
    assert kinds(events) == [*BEGIN, *CALLED, *CALLED, "completed"]
    done = [event for event in events if event["type"].endswith("arguments.done")]
    assert [(event["name"], event["arguments"]) for event in done] == [("get_weather", '{"city": "Kyiv"}')] * 2
    assert [event["output_index"] for event in done] == [0, 1]


async def test_an_answer_that_is_cut_is_incomplete() -> None:
    events = await stream(ScriptedApp("Hello, you there"), max_output_tokens=2)
    assert kinds(events) == [*BEGIN, *TEXT, "incomplete"]
    last = events[-1]["response"]
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (last["status"], last["output"][0]["status"]) == ("incomplete", "incomplete")
    assert last["usage"]["output_tokens"] == 2


async def test_an_answer_of_nothing_is_an_empty_message() -> None:
    whole = (await ScriptedApp().post(URL, {"input": "Hi"})).json()
    assert [part["text"] for item in whole["output"] for part in item["content"]] == [""]


async def test_an_error_in_the_middle_ends_the_stream_as_failed() -> None:
    events = await stream(ScriptedApp("Hello", EngineUnavailable("The engine stopped.")))
    assert kinds(events)[-2:] == ["error", "failed"]
    assert events[-2]["message"] == "The engine stopped."
    assert events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"]["message"] == "The engine stopped."
    early = await ScriptedApp(EngineUnavailable("No engine.")).post(URL, {"input": "Hi", "stream": True})
    assert early.status_code == 503
    assert early.json()["error"]["message"] == "No engine."


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


ASKED = item("function_call", call_id="c1", name="get_weather", arguments='{"city": "Kyiv"}', id="fc_1", status="done")
GIVEN = item("function_call_output", call_id="c1", output=[{"type": "input_text", "text": "Sunny"}])
READ = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Kyiv"}}}
RESULT = {"role": "tool", "tool_call_id": "c1", "name": "get_weather", "content": "Sunny"}
HI = {"role": "user", "content": "Hi"}
CONVERSATIONS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "text": ("Hi", [HI]),
    "parts": ([item("message", role="user", content=[{"type": "input_text", "text": "Hi"}])], [HI]),
    "developer": ([{"role": "developer", "content": "Be"}, HI], [{"role": "system", "content": "Be"}, HI]),
    "a call": (
        [HI, item("reasoning", id="rs_1", summary=[]), ASKED, GIVEN],
        [HI, {"role": "assistant", "content": "", "tool_calls": [READ]}, RESULT],
    ),
    "words before calls": (
        [
            HI,
            {"role": "assistant", "content": [{"type": "output_text", "text": "So", "annotations": []}]},
            ASKED,
            GIVEN,
        ],
        [HI, {"role": "assistant", "content": "So", "tool_calls": [READ]}, RESULT],
    ),
    "two messages": (
        [HI, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, HI],
        [HI, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, HI],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_items_become_messages(name: str) -> None:
    given, messages = CONVERSATIONS[name]
    app = ScriptedApp("Yes")
    assert (await app.post(URL, {"input": given, "tools": [WEATHER], "instructions": "Be brief."})).status_code == 200
    system = [{"role": "system", "content": "Be brief."}]
    assert app.source.requests[0].input_ids == TEMPLATE.chat([*system, *messages], tools=[DESCRIBED])


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id", "nothing is kept"),
    "a conversation": ({"conversation": "conv_1"}, "conversation", "nothing is kept"),
    "to be kept": ({"store": True}, "store", "nothing is kept"),
    "background": ({"background": True}, "background", "nothing is kept"),
    "a reference": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "item_reference"),
    "a picture": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0]",
        "input_image",
    ),
    "a tool of OpenAI's": ({"tools": [{"type": "web_search"}]}, "tools[0].type", "function"),
    "a tool that is not there": ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "needs tools"),
    "an allowed tool that is not there": (
        {
            "tools": [WEATHER],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        },
        "tool_choice",
        "not in tools",
    ),
    "cutting": ({"truncation": "auto"}, "truncation", "no input is cut"),
    "scores of nothing": ({"top_logprobs": 1}, "top_logprobs", "include"),
    "an unknown field": ({"messages": []}, "messages", "not known"),
    "too much": ({"input": "word " * 20_000}, "input", "context"),
    "too long an answer": ({"max_output_tokens": 10_000}, "max_output_tokens", "max_output_tokens"),
    "a form that cannot be": (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"not": {}}}}},
        "text.format",
        "text.format: the schema cannot be enforced",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(name: str) -> None:
    fields, param, words = REFUSED[name]
    response = await ScriptedApp("Yes").post(URL, {"input": "Hi", **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


async def test_null_is_as_good_as_absent() -> None:
    nothing = dict.fromkeys(
        ["instructions", "tools", "tool_choice", "store", "previous_response_id", "text", "include", "reasoning"]
    )
    assert (await ScriptedApp("Yes").post(URL, {"input": "Hi", **nothing})).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_responses_of_earlier_are_not_kept(method: str) -> None:
    async with ScriptedApp().client() as client:
        path = "/v1/responses/resp_1" + ("/cancel" if method == "POST" else "")
        response = await client.request(method, path)
    assert response.status_code == 404
    assert "nothing is kept" in response.json()["error"]["message"]


async def test_allowed_tools_are_all_that_can_be_called() -> None:
    clock = {"type": "function", "name": "get_time"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]}
    app = ScriptedApp('{"name": "get_time", "parameters": {}}')
    whole = (await app.post(URL, {"input": "Hi", "tools": [WEATHER, clock], "tool_choice": choice})).json()
    assert [call["name"] for call in whole["output"]] == ["get_time"]
    guide = app.source.requests[0].guide
    assert guide and "get_time" in guide[1] and "get_weather" not in guide[1]
