"""Streams that never lie: whatever dies, a client sees an error or a whole answer."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.asking import LONG, NO_REUSE, timeout
from tests.support.demo import PROMPT
from tests.support.serving import MACHINES, SSE, Service, serve
from tests.support.standin.place import ENGINES

pytestmark = pytest.mark.engines
STALL_S = 2
PAUSE_S, SHORT_PAUSE_S = 0.1, 0.02
"""Before each step of the other engines: of answers that are to be open for long, and of those that are to end."""


@pytest.fixture(scope="module")
def slow(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = ("--arg", f"model={slow_model}", "--arg", f"stall_limit_s={STALL_S}", "--arg", "restart_max_delay_s=1")
    with serve(home, tmp_path_factory.mktemp("victim") / "log.txt", *options) as service:
        service.wait_ready()
        yield service


@pytest.fixture
def victim(engine: str, home: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service to break, again and again, whose answers take long."""
    if home not in MACHINES:
        yield request.getfixturevalue("slow")
        return
    service = request.getfixturevalue("breakable_service")
    MACHINES[home].wish(pause_s=PAUSE_S)
    yield service
    MACHINES[home].wish()


async def events(client: httpx.AsyncClient, body: dict[str, Any]) -> AsyncIterator[tuple[str, Any]]:
    """The events of an answer, as (type, data); raises httpx.TransportError where the connection breaks."""
    async with client.stream("POST", "/generate", json=body, headers=SSE) as response:
        assert response.status_code == 200, await response.aread()
        kind = "message"
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
                yield kind, data if data == "[DONE]" else json.loads(data)
                kind = "message"


def kill_triton(service: Service) -> None:
    for triton in service.tritons():
        triton.kill()


def kill_stub(service: Service) -> None:
    service.engine().kill()


def stop_triton(service: Service) -> None:
    for triton in service.tritons():
        triton.send_signal(signal.SIGSTOP)


def stop_stub(service: Service) -> None:
    service.engine().send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("fault", [kill_triton, kill_stub, stop_triton, stop_stub])
async def test_fault_in_the_engine(victim: Service, fault: Any) -> None:
    """Open streams end with an error that clients see, readiness follows, and the engine comes back."""
    victim.wait_ready()
    before = victim.tritons()[0].pid
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=victim.url, timeout=60))
        started: list[str] = []

        async def sse(name: str) -> list[tuple[str, Any]]:
            seen = []
            async for event in events(client, LONG):
                seen.append(event)
                started.append(name)
            return seen

        async def bare(name: str) -> str:
            text = ""
            async with client.stream("POST", "/generate", json=LONG) as response:
                async for piece in response.aiter_text():
                    text += piece
                    started.append(name)
            return text

        answers = asyncio.gather(sse("a"), sse("b"), bare("c"), return_exceptions=True)
        stack.callback(answers.cancel)
        async with timeout(60):
            while set(started) != {"a", "b", "c"}:
                await asyncio.sleep(0.01)
        fault(victim)
        async with timeout(60):
            while (await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.02)
        refused = await client.post("/generate", json={"prompt": "hi"}, headers=SSE)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["code"] == "engine_unavailable"
        assert (await client.get("/livez")).status_code == 200
        results = await asyncio.wait_for(answers, 60)
        for result in results[:2]:
            assert isinstance(result, list), result
            kind, data = result[-1]
            assert kind == "error"
            assert data["error"]["code"] == "engine_unavailable"
            assert all(kind == "message" for kind, _ in result[:-1])
        assert isinstance(results[2], httpx.RemoteProtocolError), results[2]
        victim.wait_ready()
        again = [event async for event in events(client, {"prompt": PROMPT, "max_tokens": 3})]
        assert again[-1] == ("message", "[DONE]")
    assert len(victim.tritons()) == 1
    assert victim.tritons()[0].pid != before


@pytest.mark.engines(*ENGINES, "pytorch")
async def test_what_is_stopped_for_a_while_ends_no_stream(home: Path, service: Service) -> None:
    """The engine and Triton, three seconds each: with streams open, new ones coming in, clients that leave."""
    MACHINES[home].wish(pause_s=SHORT_PAUSE_S)
    try:
        await stop_for_a_while(service, twice=False)
    finally:
        MACHINES[home].wish()


@pytest.mark.engines("openvino")
async def test_what_is_stopped_for_a_while_ends_no_stream_of_another_worker(
    home: Path, slow_model: str, tmp_path: Path
) -> None:
    """Whether it is stopped is for the owner to see."""
    with serve(home, tmp_path / "log.txt", "--arg", f"model={slow_model}", "--arg", "workers=2") as service:
        service.wait_ready()
        await stop_for_a_while(service, twice=True)


async def stop_for_a_while(service: Service, *, twice: bool) -> None:
    """`twice`: the engine once more, as soon as it goes on."""
    triton, engine = service.tritons()[0], service.engine()
    done = asyncio.Event()
    whole = 0

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        nonlocal whole
        seen = []
        body = {"prompt": f"Count to {number}", "max_tokens": 40, "temperature": 1.5}
        async for event in events(client, body):
            seen.append(event)
            if number % 8 == 0 and len(seen) == 2:
                break  # leaves
        assert all(kind == "message" for kind, _ in seen), seen[-1]
        whole += seen[-1] == ("message", "[DONE]")

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        while not done.is_set():
            await ask(client, number)

    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=NO_REUSE) as client:
        clients = [asyncio.create_task(keep_asking(client, number)) for number in range(32)]
        for victim in (engine, *[engine] * twice, triton):
            await asyncio.sleep(0.5)
            victim.suspend()
            clients += [asyncio.create_task(ask(client, number)) for number in range(1, 8)]
            await asyncio.sleep(3)
            victim.resume()
        await asyncio.sleep(0.5)
        done.set()
        await asyncio.wait_for(asyncio.gather(*clients), 60)
    assert whole >= 3 * 7
    assert (service.tritons(), service.engine()) == ([triton], engine)
