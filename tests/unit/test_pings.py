"""A stream that is silent has a comment now and then, before its first event and between two; on a clock that jumps."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bento_trtllm.api import sse
from bento_trtllm.api.asgi import Message, Receive, Scope, Send, respond
from bento_trtllm.api.bodies import DECODED
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.pings import Pings
from bento_trtllm.api.web import LATE_ERRORS
from tests.support.virtual_time import in_virtual_time

CHAT, GENERATE = "/v1/chat/completions", "/generate"
EVENT, END = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}, {"type": "http.response.body"}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
Work = Callable[[Send], Awaitable[None]]


async def nothing() -> Message:
    raise AssertionError("nobody reads")


async def ask(
    work: Work, *, path: str = CHAT, stream: bool | None = True, accept: bytes = b"", interval_s: float = 15
) -> list[tuple[float, str]]:
    """What a client gets of a response, and when: its status, then parts of its body."""
    loop = asyncio.get_running_loop()
    got: list[tuple[float, str]] = []

    async def send(message: Message) -> None:
        what = message["body"].decode() if "body" in message else str(message.get("status", "end"))
        got.append((loop.time(), what))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await work(send)

    scope = {"type": "http", "path": path, "headers": [(b"accept", accept)], DECODED: {"stream": stream}}
    await Pings(app, interval_s=interval_s, late_errors=LATE_ERRORS)(scope, nothing, send)
    return got


def after(*steps: tuple[float, Message]) -> Work:
    async def work(send: Send) -> None:
        for seconds, message in steps:
            await asyncio.sleep(seconds)
            await send(message)

    return work


@in_virtual_time
async def test_between_two_events() -> None:
    got = await ask(after((1, START), (0, EVENT), (40, EVENT), (14, EVENT), (14, END)))
    data = EVENT["body"].decode()  # type: ignore[attr-defined]
    expected = [(1, "200"), (1, data), (16, sse.PING), (31, sse.PING), (41, data), (55, data), (69, "end")]
    assert got == expected


@in_virtual_time
async def test_before_the_first_event() -> None:
    got = await ask(after((31, START), (0, EVENT), (0, END)))
    assert got == [(15, "200"), (15, sse.PING), (30, sse.PING), (31, "data: 1\n\n"), (31, "end")]


ERROR = APIError(503, "overloaded", "Busy.")
LATE: dict[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("", ERROR.body()),
    GENERATE: ("event: error\n", ERROR.body()),
    "/v1/messages": (
        "event: error\n",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}, "request_id": None},
    ),
    "/v1/responses": (
        "event: error\n",
        {"type": "error", "sequence_number": 0, "code": "overloaded", "message": "Busy.", "param": None},
    ),
}


@pytest.mark.parametrize("path", LATE)
def test_what_goes_wrong_after_that_is_an_event(path: str) -> None:
    before, content = LATE[path]

    @in_virtual_time
    async def test() -> None:
        async def work(send: Send) -> None:
            await asyncio.sleep(20)
            await respond(send, ERROR)

        got = await ask(work, path=path, accept=b"text/event-stream")
        assert got[:2] == [(15, "200"), (15, sse.PING)]
        (_, last) = got[2]
        head, _, data = last.partition("data: ")
        assert (head, json.loads(data)) == (before, content) and data.endswith("}\n\n")
        assert len(got) == 3

    test()


@in_virtual_time
async def test_an_early_error_has_its_status() -> None:
    got = await ask(lambda send: respond(send, APIError(429, "overloaded", "Busy.")))
    assert next(what for _, what in got) == "429"


@in_virtual_time
async def test_nothing_is_said_in_answers_of_other_kinds() -> None:
    plain = {**START, "headers": [(b"content-type", b"text/plain")]}
    for asked in (
        ask(after((1, plain), (40, EVENT), (0, END)), path=GENERATE, accept=b"text/event-stream"),
        ask(after((40, START), (0, END)), stream=False),
        ask(after((40, START), (0, END)), path=GENERATE, stream=None),
        ask(after((40, START), (40, END)), interval_s=0),
    ):
        assert sse.PING not in [what for _, what in await asked]


@in_virtual_time
async def test_a_client_that_does_not_read_is_not_pinged() -> None:
    waiting = asyncio.Event()
    pings = 0

    async def send(message: Message) -> None:
        nonlocal pings
        pings += message.get("body") == sse.PING.encode()
        if message.get("body") == EVENT["body"]:
            await waiting.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(EVENT)

    serving = asyncio.create_task(
        Pings(app, interval_s=15, late_errors={})(
            {"type": "http", "path": CHAT, DECODED: {"stream": True}}, nothing, send
        )
    )
    await asyncio.sleep(100)
    assert pings == 0
    waiting.set()
    await serving
