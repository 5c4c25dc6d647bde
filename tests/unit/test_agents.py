"""What coding agents send, replayed: recorded from Claude Code and Codex as they read a file for their user.

Long texts, ids and most of Claude Code's tools are cut; fields, order and schemas are theirs. Both run for real by
compatibility/agents.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from bento_trtllm.api.dialogue.conversation import Toolbox
from bento_trtllm.api.dialogue.forms import compile_auto
from bento_trtllm.api.tools.calls import CallableTool
from bento_trtllm.api.tools.formats import FORMATS
from tests.support.demo import TOKENIZER
from tests.support.scripted_app import ScriptedApp, typed_events

FOLDER = Path(__file__).parents[1] / "data" / "agents"
RECORDED: dict[str, list[dict[str, Any]]] = {
    file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))
}
CALLS = {
    "claude-code-2.1.197": '{"name": "Read", "parameters": {"file_path": "/home/me/project/notes.txt"}}',
    "codex-0.171.0": '{"name": "exec_command", "parameters": {"cmd": "cat notes.txt"}}',
}


def told(events: list[dict[str, Any]]) -> str:
    """The text of a stream, of either API."""
    deltas = (event.get("delta") for event in events if event["type"] != "message_delta")
    return "".join(delta if isinstance(delta, str) else (delta or {}).get("text", "") for delta in deltas)


async def replay(app: ScriptedApp, request: dict[str, Any]) -> list[dict[str, Any]]:
    response = await app.post(request["path"], request["body"], **request["headers"])
    assert response.status_code == 200, response.text
    return [json.loads(data) for _, data in typed_events(response.text)]


@pytest.mark.parametrize("agent", CALLS)
async def test_an_agent_calls_a_tool_and_gets_its_answer(agent: str) -> None:
    first, second = RECORDED[agent]
    app = ScriptedApp(CALLS[agent])
    events = await replay(app, first)
    (call,) = (
        event.get("content_block") or event["item"]
        for event in events
        if event["type"] in ("content_block_start", "response.output_item.added")
    )
    assert call["name"] == json.loads(CALLS[agent])["name"]
    # What begins as a call of theirs is held to its schema.
    assert app.source.requests[0].guide
    app = ScriptedApp("It says: remember the milk.")
    events = await replay(app, second)
    assert told(events) == "It says: remember the milk."
    prompt = TOKENIZER.spell(app.source.requests[0].input_ids)
    for part in ("Let me read it.", "notes.txt", "Remember the milk."):
        assert part in prompt


async def test_what_claude_code_sends_is_counted() -> None:
    (request, _) = RECORDED["claude-code-2.1.197"]
    kept = ("model", "messages", "system", "tools", "thinking", "context_management", "output_config")
    body = {key: request["body"][key] for key in kept}
    app = ScriptedApp("")
    counted = await app.post("/v1/messages/count_tokens?beta=true", body, **request["headers"])
    events = await replay(ScriptedApp("Hi"), request)
    assert counted.json() == {"input_tokens": events[0]["message"]["usage"]["input_tokens"]}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("agent", CALLS)
def test_a_tool_that_cannot_be_enforced_leaves_the_others_enforced(agent: str, format: Any) -> None:
    """Claude Code's Workflow has a text of up to 524,288 characters."""
    tools = tuple(
        CallableTool(tool["name"], tool.get("input_schema") or tool["parameters"])
        for tool in RECORDED[agent][0]["body"]["tools"]
    )
    assert compile_auto(Toolbox((), tools), format, "no")


async def test_tools_that_only_openai_has_are_refused_by_name() -> None:
    """As Codex sends them by default."""
    body = RECORDED["codex-0.171.0"][0]["body"]
    for tool in ({"type": "web_search", "external_web_access": False}, {"type": "namespace", "name": "x", "tools": []}):
        response = await ScriptedApp("").post("/v1/responses", {**body, "tools": [*body["tools"], tool]})
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["param"] == f"tools[{len(body['tools'])}].type"
        assert "only functions" in error["message"]
