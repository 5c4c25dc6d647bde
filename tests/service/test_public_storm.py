"""The storm for any server, on this one: it tells its clients what it must, without a fault.

What this one never says is put into its answers on the way.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable

import httpx
import psutil
import pytest

from soak import public
from tests.support.demo import MODEL
from tests.support.serving import Service

CHOICES, DONE = b'"choices":', b"data: [DONE]"


class Altered(httpx.AsyncBaseTransport):
    """Brings requests to a server, and its answers, altered, back."""

    def __init__(self, alter: Callable[[bytes], bytes]) -> None:
        self.alter = alter
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        body = await response.aread()
        await response.aclose()
        return httpx.Response(response.status_code, content=self.alter(body))

    async def aclose(self) -> None:
        await self.inner.aclose()


async def ask(service: Service, kind: str, alter: Callable[[bytes], bytes]) -> dict[str, int]:
    """What a storm counts of one request of that kind, after it has learned what is right."""
    prompt = public.PROMPTS[0]
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        storm = public.Storm(http, random.Random(0), MODEL)
        storm.alone[prompt] = await storm._text(prompt)
    async with httpx.AsyncClient(base_url=service.url, transport=Altered(alter)) as http:
        storm.http = http
        await storm._ask(kind, prompt)
    return dict(+storm.counts)


async def test_this_service_stands_it(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        storm = await public.run(http, seconds=1, streams=4, seed=0)
    rows = storm.rows()
    assert storm.counts["whole answers"] > 0
    assert {name: rows[name] for name in public.MUST_BE_ZERO} == dict.fromkeys(public.MUST_BE_ZERO, 0)
    assert rows["recovery"] == "nothing was broken"


async def test_the_process_that_is_named_is_stopped_continued_and_killed_and_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "PROMPTS", public.PROMPTS[:1])
    monkeypatch.setattr(public, "STOPPED_S", 0.2)
    sent: list[tuple[int, int]] = []
    send = psutil.Process.send_signal

    def told(self: psutil.Process, number: int) -> None:
        sent.append((self.pid, number))
        send(self, number)

    monkeypatch.setattr(psutil.Process, "send_signal", told)
    named, other = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
    try:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
            storm = await public.run(http, seconds=1, streams=1, seed=0, pids=[named.pid])
        stopped, killed = storm.recoveries
        assert stopped.endswith(" s after 0.2 s stopped")
        assert killed.endswith(" s after a kill")
        assert sent == [(named.pid, number) for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL)]
        assert named.wait(60) == -signal.SIGKILL
        nothing = os.waitpid(other.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        assert nothing == (0, 0)
    finally:
        for process in (named, other):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("alter", "counted"),
    [
        (lambda body: body.replace(b"data: ", b"data:"), "whole answers"),
        (lambda body: body.replace(b"\n", b"\r\n"), "whole answers"),
        (lambda body: body.replace(CHOICES, '"x":"\u2028",'.encode() + CHOICES), "whole answers"),
        (lambda body: body.rstrip(), "whole answers"),
        (lambda body: body.replace(DONE, b"event:error\ndata:{}"), public.TOLD),
        (lambda body: body[: body.index(DONE) + 6], public.SILENT),
        (lambda body: body[: body.rindex(CHOICES)], public.SILENT),
    ],
    ids=["no space", "CRLF", "U+2028", "no last line's end", "an error", "cut at the end", "cut within a line"],
)
async def test_events_are_read_as_the_html_standard_has_them(
    service: Service, alter: Callable[[bytes], bytes], counted: str
) -> None:
    assert await ask(service, "chat", alter) == {counted: 1}


@pytest.mark.parametrize(
    ("kind", "alter"),
    [
        ("chat", lambda body: body.replace(CHOICES, b'"choices')),
        ("chat", lambda body: body.replace(CHOICES, b'"choices":5,"x":')),
        ("chat", lambda _: b"data: []\n\n"),
        ("completion", lambda _: b"data: no JSON\n\n"),
        ("whole", lambda body: body.replace(CHOICES, b'"x":')),
        ("whole", lambda _: b"no JSON"),
    ],
    ids=["half a name", "another type", "a list", "no JSON", "whole, no choices", "whole, no JSON"],
)
async def test_what_is_no_answer_is_a_wrong_one(service: Service, kind: str, alter: Callable[[bytes], bytes]) -> None:
    assert await ask(service, kind, alter) == {public.WRONG: 1}


async def test_a_storm_goes_on_after_what_is_no_answer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "KINDS", ("chat", "whole"))
    monkeypatch.setattr(public, "PROMPTS", public.PROMPTS[:1])
    for seconds in (0.5, 5, 50):  # as the machine is
        async with httpx.AsyncClient(
            base_url=service.url, transport=Altered(lambda body: body.replace(DONE, b"data: {"))
        ) as http:
            storm = await public.run(http, seconds=seconds, streams=2, seed=0)
        if storm.counts["whole answers"] and storm.counts[public.WRONG] > 1:
            break
    assert storm.counts["whole answers"] > 0
    assert storm.counts[public.WRONG] > 1
    assert set(+storm.counts) == {"whole answers", public.WRONG}


@pytest.mark.parametrize(
    ("response", "counted"),
    [
        (lambda: httpx.Response(429), public.AGAIN),
        (lambda: httpx.Response(503), public.AGAIN),
        (lambda: httpx.Response(500), public.ERRORS),
        (lambda: httpx.Response(200, headers={"content-encoding": "gzip"}, content=b"no gzip"), public.WRONG),
    ],
)
@pytest.mark.parametrize(("kind", "requests"), [("chat", 1), ("whole", 1), ("crowd", public.CROWD)])
async def test_a_refusal_is_no_cut(
    kind: str, requests: int, response: Callable[[], httpx.Response], counted: str
) -> None:
    transport = httpx.MockTransport(lambda _: response())
    async with httpx.AsyncClient(base_url="http://test", transport=transport) as http:
        storm = public.Storm(http, random.Random(0))
        await storm._ask(kind, public.PROMPTS[0])
    assert +storm.counts == {counted: requests}
    assert {public.TOLD: 0, public.AGAIN: 0}.items() <= public.Storm(http, random.Random(0)).rows().items()


async def test_where_nobody_listens_each_request_says_so() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as http:
        storm = public.Storm(http, random.Random(0))
        await storm._ask("crowd", public.PROMPTS[0])
    assert +storm.counts == {public.NOBODY: public.CROWD}


@pytest.mark.parametrize("models", [[], {"data": {}}, {"data": [{"id": "m"}]}], ids=["list", "no list", "no answers"])
async def test_a_server_of_another_api_is_not_asked(models: object) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=models))
    async with httpx.AsyncClient(base_url="http://test", transport=transport) as http:
        with pytest.raises(public.NotAskable, match="it does not answer as OpenAI's API does"):
            await public.Storm(http, random.Random(0)).ask_alone()
