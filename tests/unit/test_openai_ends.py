"""What ends an answer, what of that is shown, and what is said of it, on a scripted model."""

import json
from typing import Any

import pytest

from tests.support.demo import TOKENIZER
from tests.support.scripted_app import EOT, ScriptedApp

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
START = TOKENIZER.special_ids["<|start_header_id|>"]
WORLD = TOKENIZER.encode_text(" world")[0]
TEXT = "Hello, world of text"


async def ask(path: str, *script: Any, stream: bool, **fields: Any) -> tuple[str, str, Any]:
    """Text, finish reason and stop reason."""
    said = {"messages": [{"role": "user", "content": "Hi"}]} if path == CHAT else {"prompt": "Hi"}
    response = await ScriptedApp(*script).post(path, {**said, "max_tokens": 50, "stream": stream, **fields})
    assert response.status_code == 200, response.text
    if not stream:
        (choice,) = response.json()["choices"]
        text = choice["message"]["content"] if path == CHAT else choice["text"]
        return text, choice["finish_reason"], choice["stop_reason"]
    chunks = [json.loads(line[6:])["choices"][0] for line in response.text.split("\n") if line.startswith("data: {")]
    text = "".join(chunk["delta"].get("content") or "" if path == CHAT else chunk["text"] for chunk in chunks)
    assert not any("stop_reason" in chunk for chunk in chunks[:-1])
    return text, chunks[-1]["finish_reason"], chunks[-1]["stop_reason"]


CASES: list[tuple[list[Any], dict[str, Any], tuple[str, str, Any]]] = [
    ([TEXT], {}, (TEXT, "stop", None)),
    ([TEXT], {"max_tokens": 2}, ("Hello,", "length", None)),
    ([TEXT], {"stop": [" of", "x"]}, ("Hello, world", "stop", " of")),
    ([TEXT], {"stop": " of", "include_stop_str_in_output": True}, ("Hello, world of", "stop", " of")),
    ([TEXT], {"stop_token_ids": [WORLD]}, ("Hello,", "stop", WORLD)),
    ([TEXT], {"stop_token_ids": [WORLD], "include_stop_str_in_output": True}, ("Hello, world", "stop", WORLD)),
    ([TEXT], {"stop_token_ids": [WORLD], "stop": ", w"}, ("Hello,", "stop", WORLD)),
    (["a", [START], "b"], {}, ("ab", "stop", None)),
    (["a", [START], "b"], {"skip_special_tokens": False}, ("a<|start_header_id|>b", "stop", None)),
    (["a", [START], "b"], {"stop": "<|start_header_id|>"}, ("a", "stop", "<|start_header_id|>")),
    (["a", [START], "b"], {"stop_token_ids": [START]}, ("a", "stop", START)),
    (["a", [START], "b"], {"stop": "<|start_header_id|>", "skip_special_tokens": False},
     ("a", "stop", "<|start_header_id|>")),
    (["a", [START], "b"],
     {"stop": "<|start_header_id|>", "skip_special_tokens": False, "include_stop_str_in_output": True},
     ("a<|start_header_id|>", "stop", "<|start_header_id|>")),
    (["a", [EOT], "b"], {"ignore_eos": True, "stop": "<|eot_id|>"}, ("a", "stop", "<|eot_id|>")),
    (["a", [EOT], "b"], {"ignore_eos": True, "max_tokens": 3}, ("ab", "length", None)),
    (["a"], {"stop": "<|eot_id|>", "skip_special_tokens": False}, ("a", "stop", None)),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(("script", "fields", "expected"), CASES)
async def test_ends(path: str, stream: bool, script: list[Any], fields: dict[str, Any], expected: Any) -> None:
    assert await ask(path, *script, stream=stream, **fields) == expected


async def test_the_engine_is_told() -> None:
    app = ScriptedApp(TEXT)
    body = {"prompt": "Hi", "stop": ["<|start_header_id|>", "x"], "stop_token_ids": [WORLD, EOT, WORLD]}
    assert (await app.post(COMPLETIONS, body)).status_code == 200
    assert list(app.source.requests[0].stop_words) == [[WORLD], [START]]
    assert (await app.post(COMPLETIONS, {**body, "ignore_eos": True})).status_code == 200
    assert list(app.source.requests[1].stop_words) == [[WORLD], [EOT], [START]]


async def test_an_answer_of_a_form_ends_by_itself() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"}}}
    quote = TOKENIZER.encode_text('"')[0]
    fields = {"response_format": form, "stop_token_ids": [quote], "skip_special_tokens": False, "stop": "<|eot_id|>"}
    assert await ask(CHAT, '"a b"', stream=False, **fields) == ('"a b"', "stop", None)


@pytest.mark.parametrize("token", [-1, 2560])
async def test_a_token_that_there_is_not(token: int) -> None:
    response = await ScriptedApp(TEXT).post(COMPLETIONS, {"prompt": "Hi", "stop_token_ids": [5, token]})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "stop_token_ids", "invalid_value")
    assert "from 0 to 2559" in error["message"]
