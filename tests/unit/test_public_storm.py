"""The storm for any server, against servers that misbehave on purpose: the boundary is HTTP, and they are behind it."""

import json
import random
import sys
from collections.abc import Callable

import httpx
import pytest

from soak import main, public

Answer = Callable[[dict[str, object]], httpx.Response]
TEXT = "one two three"


def chunk(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + "\n\n"


def storm(streamed: str) -> public.Storm:
    """One whose server answers well when it is asked for a whole, and with these events when asked for a stream."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        try:
            body = json.loads(request.content)
        except ValueError:
            return httpx.Response(400)
        if body.get("stream"):
            return httpx.Response(200, text=streamed)
        return httpx.Response(200, json={"choices": [{"message": {"content": TEXT}}]})

    http = httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(answer))
    return public.Storm(http, random.Random(0))


@pytest.mark.parametrize(
    ("streamed", "counted"),
    [
        (chunk("one two") + chunk(" three") + "data: [DONE]\n\n", "whole answers"),
        (chunk("one two") + 'data: {"error": {}}\n\n', public.TOLD),
        (chunk("one two") + "event: error\ndata: {}\n\n", public.TOLD),
        (chunk("one two"), public.SILENT),
        (chunk("one two") + "data: [DONE]\n\n", public.SILENT),
        (chunk("one too") + "data: [DONE]\n\n", public.WRONG),
    ],
)
async def test_each_end_of_a_stream_is_counted_as_what_it_is(streamed: str, counted: str) -> None:
    run = storm(streamed)
    await run.ask_alone()
    await run._chat(public.PROMPTS[0])
    assert +run.counts == {counted: 1}


async def test_nonsense_must_be_refused() -> None:
    run = storm("")
    await run._bad("x")
    assert not run.counts[public.ERRORS]
    run.http = httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    await run._bad("x")
    assert run.counts[public.ERRORS] == 1


async def test_a_server_that_cannot_be_compared_is_refused() -> None:
    texts = iter(range(1000))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        return httpx.Response(200, json={"choices": [{"message": {"content": str(next(texts))}}]})

    for handler, why in (
        (answer, "two answers to"),
        (lambda _: httpx.Response(404), "it answers 404 to GET /v1/models$"),
        (lambda _: httpx.Response(401), "it answers 401: set OPENAI_API_KEY"),
    ):
        transport = httpx.MockTransport(handler)
        run = public.Storm(httpx.AsyncClient(base_url="http://test", transport=transport), random.Random(0))
        with pytest.raises(public.NotAskable, match=why):
            await run.ask_alone()


async def test_only_the_process_that_is_named_is_touched() -> None:
    run = storm("")
    await run.ask_alone()
    await run.break_things([2**22 + 1], 0)  # no process has that id
    assert run.recoveries == [f"{2**22 + 1} was gone before it could be {how}" for how in ("stopped", "killed")]


@pytest.mark.parametrize("pid", ["-1", str(2**22 + 1)])  # past the most that Linux has, proc(5)
def test_a_process_that_is_not_there_is_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pid: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/soak", "--url", "http://test", f"--pid={pid}"])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert f"--pid {pid}: there is no such process" in capsys.readouterr().err
