"""Every response has its request's id, and every error the one form, whoever made it."""

import asyncio
import json
from typing import Any

import pytest

from bento_trtllm.api import request_id
from bento_trtllm.api.asgi import Message, Receive, Scope, Send
from bento_trtllm.api.envelope import Envelope
from bento_trtllm.api.errors import APIError

TEXT, JSON = (b"content-type", b"text/plain; charset=utf-8"), (b"content-type", b"application/json")


async def nothing() -> Message:
    raise AssertionError("nobody reads")


def ask(
    status: int, body: bytes, *headers: tuple[bytes, bytes], sent: bytes | None = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of what comes of an application's response."""
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

    async def keep(message: Message) -> None:
        messages.append(message)

    names = [] if sent is None else [(b"x-request-id", sent)]
    asyncio.run(Envelope(app)({"type": "http", "method": "GET", "path": "/x", "headers": names}, nothing, keep))
    start, *bodies = messages
    assert not bodies[-1].get("more_body")
    return start["status"], dict(start["headers"]), b"".join(each["body"] for each in bodies)


FOREIGN: list[tuple[int, bytes, tuple[bytes, bytes], str, str, str]] = [
    (404, b"Not Found", TEXT, "invalid_request_error", "unknown_url", "Invalid URL (GET /x)."),
    (404, b'{"detail":"Not Found"}', JSON, "invalid_request_error", "unknown_url", "Invalid URL (GET /x)."),
    (405, b"Method Not Allowed", TEXT, "invalid_request_error", "method_not_allowed", "takes POST."),
    (400, b'[{"error": "odd"}]', JSON, "invalid_request_error", "invalid_value", "odd."),
    (400, b"", TEXT, "invalid_request_error", "invalid_value", "The request cannot be served as it is."),
    (503, b"It starts.", TEXT, "server_error", "engine_unavailable", "It starts."),
    (
        500,
        b"Traceback: secret",
        TEXT,
        "server_error",
        "internal_error",
        "The answer failed: see the server's log for me.",
    ),
    (502, b"{", JSON, "server_error", "internal_error", "The answer failed: see the server's log for me."),
]


@pytest.mark.parametrize(("status", "body", "header", "kind", "code", "words"), FOREIGN)
def test_errors_of_others_become_ours(
    status: int, body: bytes, header: tuple[bytes, bytes], kind: str, code: str, words: str
) -> None:
    answered, headers, content = ask(status, body, header, (b"allow", b"POST"), (b"vary", b"origin"), sent=b"me")
    error: dict[str, Any] = json.loads(content)["error"]
    assert answered == status
    assert (error["type"], error["param"], error["code"]) == (kind, None, code)
    assert error["message"].endswith(words)
    assert (headers[b"content-type"], headers[b"content-length"]) == (b"application/json", str(len(content)).encode())
    assert (headers[b"allow"], headers[b"vary"]) == (b"POST", b"origin")


def test_errors_of_ours_and_of_other_forms_stay() -> None:
    for error in (APIError(404, "model_not_found", "No.", param="model").body(), {"type": "error", "error": {"x": 1}}):
        body = json.dumps(error).encode()
        status, headers, content = ask(404, body, JSON)
        assert (status, content, headers[b"content-length"]) == (404, body, str(len(body)).encode())


def test_answers_stay() -> None:
    status, headers, content = ask(200, b"some text", TEXT)
    assert (status, content, headers[b"content-type"]) == (200, b"some text", TEXT[1])


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("sent", [b"abc-123", b"x" * 128, b"2026/a:b"])
def test_a_request_keeps_its_id(status: int, sent: bytes) -> None:
    assert ask(status, b"body", TEXT, sent=sent)[1][b"x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, b"", b"x" * 129, b"a b", b"a\xff", b"\x1b[1m"])
def test_one_without_or_with_an_odd_one_gets_another(sent: bytes | None) -> None:
    first, second = (ask(200, b"body", TEXT, sent=sent)[1][b"x-request-id"] for _ in range(2))
    assert first != second
    assert request_id.VALID.fullmatch(first) and first != sent
