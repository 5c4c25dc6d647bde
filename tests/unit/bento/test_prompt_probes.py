"""Probes are answered as soon as they are read, and only if the answer is yes."""

import asyncio
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from bento_trtllm.bento.peers import Peers
from bento_trtllm.bento.prompt_probes import PromptProbes
from bento_trtllm.bento.protocol import BoundedProtocol
from bento_trtllm.config import Settings
from bento_trtllm.generation.turns import Turns
from tests.support.asking import timeout
from tests.support.limits import LIMIT_S

PROBE = b"GET /readyz HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n\r\n"


class Wire(asyncio.Transport):
    """Notes what is written to a client. No socket: what is shown is that nothing of this waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Service:
    """uvicorn's protocol, with ours, around an application that notes what reaches it, and answers when told to."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.reached: list[str] = []
        self.answer = asyncio.Event()
        self.peers = Peers(1, 9)
        self.wire = Wire()
        config = Config(self.app, interface="asgi3")
        config.load()
        self.protocol = BoundedProtocol(
            config=config, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop(),
            settings=Settings(), peers=self.peers, probes=PromptProbes(lambda: self.why), turns=Turns(9),
        )  # fmt: skip
        self.protocol.connection_made(self.wire)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(f"{scope['method']} {scope['path']}")
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 418, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.protocol.connection_lost(None)


@pytest.mark.parametrize("path", [b"/readyz", b"/livez", b"/healthz"])
async def test_a_probe_is_answered_before_the_loop_turns(path: bytes) -> None:
    with Service() as service:
        for _ in range(2):
            service.protocol.data_received(PROBE.replace(b"/readyz", path))
        first, second, third = service.wire.written.split(b"HTTP/1.1 200 OK\r\n")
        assert first == b"" and second == third and second.endswith(b"\r\n\r\n\n")
        assert b"x-request-id: mine\r\n" in second and b"content-length: 1\r\n" in second
        # It is idle again, so another may have its place.
        service.peers.add(Service().protocol, "1.2.3.4")
        assert service.wire.closed and service.reached == []


async def test_one_of_many_that_come_at_once_is_answered_so() -> None:
    """However many come, they keep the loop no longer from others than as many requests of another kind."""
    with Service() as service:
        service.protocol.data_received(PROBE * 5)
        assert service.wire.written.count(b"200 OK") == 1
        await asyncio.sleep(0)
        assert service.reached == ["GET /readyz"] and not service.wire.closed
    with Service() as service:
        service.protocol.data_received(PROBE * 1000)
        assert service.wire.written.count(b"200 OK") == 1 and service.wire.closed


async def test_a_probe_of_http_10_ends_its_connection() -> None:
    with Service() as service:
        service.protocol.data_received(PROBE.replace(b"1.1", b"1.0"))
        assert b"200 OK" in service.wire.written and service.wire.closed


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (PROBE, "The engine is not ready."),
        (PROBE.replace(b"GET", b"HEAD"), None),
        (PROBE.replace(b"GET", b"POST"), None),
        (PROBE.replace(b"/readyz", b"/readyz/"), None),
        (PROBE.replace(b"Host: h", b"Host: h\r\nContent-Length: 0"), None),
        (PROBE.replace(b"Host: h", b"Host: h\r\nOrigin: http://o"), None),
    ],
    ids=["not ready", "head", "post", "another path", "body", "origin"],
)
async def test_all_else_is_left_to_the_application(request_: bytes, why: str | None) -> None:
    with Service() as service:
        service.why = why
        service.protocol.data_received(request_)
        assert service.wire.written == b""
        await asyncio.sleep(0)
        assert len(service.reached) == 1


async def test_a_probe_behind_another_request_waits_for_its_turn() -> None:
    with Service() as service:
        service.protocol.data_received(PROBE.replace(b"/readyz", b"/long") + PROBE)
        await asyncio.sleep(0)
        assert service.wire.written == b"" and service.reached == ["GET /long"]
        service.answer.set()
        async with timeout(LIMIT_S):
            while b"200 OK" not in service.wire.written:
                await asyncio.sleep(0)
        assert service.wire.written.index(b"418") < service.wire.written.index(b"200 OK")
