"""How many connections a worker accepts in a turn of its event loop."""

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from bento_trtllm.bento import backlog
from bento_trtllm.bento.backlog import MOST, Backlog
from tests.support.asking import timeout

MANY = 3 * MOST


class Protocol(asyncio.Protocol):
    """One connection, which notes what came."""

    def __init__(self, **_: Any) -> None:
        self.transport = asyncio.BaseTransport()
        self.came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.came += data


def accepted_in_turns(wrap: Callable[[Callable[..., asyncio.Protocol]], Callable[..., asyncio.Protocol]]) -> list[int]:
    """How many of MANY that are there at once are connected in each turn of uvloop. All are, and can speak."""
    made: list[Protocol] = []

    def make(**options: Any) -> asyncio.Protocol:
        made.append(Protocol(**options))
        return made[-1]

    async def serve(listener: socket.socket) -> list[int]:
        factory, counts = wrap(make), [0]
        options = {"config": SimpleNamespace(is_ssl=False)}
        server = await asyncio.get_running_loop().create_server(lambda: factory(**options), sock=listener)
        async with timeout(60):
            while len(made) < MANY or any(not each.came for each in made):
                await asyncio.sleep(0)
                counts.append(len(made) - sum(counts))
        for each in made:
            assert each.came == b"hi"
            connection = each.transport.get_extra_info("socket")
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            each.transport.close()
        server.close()
        return [count for count in counts if count]

    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(MANY)]
        for client in clients:
            client.sendall(b"hi")
        try:
            return uvloop.run(serve(listener))
        finally:
            for client in clients:
                client.close()


def test_so_many_are_accepted_once_there_were_two() -> None:
    counts = accepted_in_turns(Backlog)
    # Those beside one are connected in a turn of their own, with those beside the next.
    assert counts[0] == 1 and MOST - 1 <= max(counts) <= 2 * MOST


def test_uvloop_accepts_one() -> None:
    """The canary: if it accepts more by itself, Backlog may go."""
    assert set(accepted_in_turns(lambda make: make)) == {1}, "look at bento/backlog.py"


@pytest.mark.parametrize("before", [4, 5])
async def test_a_worker_with_time_leaves_most_to_the_others(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setattr(backlog, "listening", lambda: iter([listener]))
        factory = Backlog(Protocol)
        options = {"config": SimpleNamespace(is_ssl=False)}
        for _ in range(before):  # as often as uvicorn accepted one that was alone
            factory(**options)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        factory(**options)
        for _ in range(2):
            listener.accept()[0].close()
        await asyncio.sleep(0)
        for client in clients:
            client.close()
