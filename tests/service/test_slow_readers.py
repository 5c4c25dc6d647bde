"""Clients that read slowly or not at all: they cost a stated amount of memory, and nobody else's time."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support import tiny
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import peers, workers
from tests.support.serving import SSE, Service, pack, serve
from tests.support.verdict import best_within

READERS = 4
# What is merged while a machine is busy is short: of 3000 tokens, all fitted the buffers of two readers once.
TOKENS = 5000
WRITE_TIMEOUT_S = 5
ROUNDS = 5
BODY = {"model": "long-llama", "prompt": "a", "ignore_eos": True, "stream": True, "logprobs": 1}
# uvicorn stops at 64 KiB (uvicorn/protocols/http/flow_control.py); the rest is a connection's and a request's own.
CONNECTION_BYTES = 384 * 1024
PENDING_BYTES = 8
# They may cost others nothing, but for the noise in the best of ten streams.
SLOWED = 1.1


@pytest.fixture(scope="module")
def model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """It says much in no time."""
    folder = tmp_path_factory.mktemp("long")
    return pack(home, "long-llama:test", write_checkpoint(folder / "long-llama", context=4 * TOKENS))


@pytest.fixture
def start(home: Path, model: str, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def start(*options: str) -> Service:
            service = stack.enter_context(serve(home, tmp_path / "log.txt", "--arg", f"model={model}", *options))
            service.wait_ready()
            return service

        yield start


def ask(service: Service, tokens: int) -> socket.socket:
    """A request for so many tokens, on a connection with hardly a buffer, of which nothing has been read."""
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps({**BODY, "max_tokens": tokens}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect((host, int(port)))
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@contextmanager
def slow_readers(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Clients that read a byte a second, once the engine has said all that they asked for."""
    with ExitStack() as stack:
        connections = [stack.enter_context(ask(service, TOKENS)) for _ in range(count)]
        for connection in connections:
            assert connection.recv(1), "it was cut before it began"
        over = threading.Event()

        def read() -> None:
            while not over.wait(1):
                for connection in connections:
                    with suppress(ConnectionResetError):
                        connection.recv(1)

        reading = threading.Thread(target=read)
        reading.start()
        try:
            tiny.until(lambda: service.active() == 0, 60)
            yield connections
        finally:
            over.set()
            reading.join()


def quickest(client: httpx.Client) -> float:
    """Seconds that the quickest of several streams takes: the one that the rest of the machine has disturbed least."""

    def once() -> float:
        began = time.monotonic()
        response = client.post("/v1/completions", json={**BODY, "max_tokens": 500}, headers=SSE)
        assert response.text.endswith("data: [DONE]\n\n")
        return time.monotonic() - began

    return min(once() for _ in range(10))


def rest(connection: socket.socket) -> bytes:
    """What can still be read."""
    data = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            data += more
    return data


@pytest.mark.measured
def test_they_hold_bounded_memory_and_slow_nobody(start: Callable[..., Service]) -> None:
    """A machine may be slow, or quick, for seconds on end, whoever reads: a round has both kinds of time, and those who
    read slowly slow nobody if it shows in one.
    """
    service = start("--arg", "workers=1")
    process = psutil.Process(*workers(service))
    with httpx.Client(base_url=service.url, timeout=60) as client:
        alone = [quickest(client)]
        before = process.memory_info().rss

        def slowed() -> float:
            with slow_readers(service, READERS) as connections:
                held = process.memory_info().rss - before
                beside = quickest(client)
                assert ports(connections) <= peers(process), "they were to be held"
            print(f"held {held / READERS / 1024:.0f} KiB a reader; beside {beside:.3f} s, alone {alone[-1]:.3f} s")
            assert held / READERS <= CONNECTION_BYTES + PENDING_BYTES * TOKENS
            alone.append(quickest(client))
            return beside / min(alone[-2:])

        within, ratios = best_within(SLOWED, slowed, ROUNDS)
    assert within, ratios


def test_they_are_given_up(start: Callable[..., Service]) -> None:
    """Within some times write_timeout_s, and as what they are."""
    service = start("--arg", f"write_timeout_s={WRITE_TIMEOUT_S}", "--arg", "workers=1")
    process = psutil.Process(*workers(service))
    with slow_readers(service, 2) as connections:
        tiny.until(lambda: not ports(connections) & peers(process), 60)
        assert not any(b"[DONE]" in rest(connection) for connection in connections)
    cancelled = httpx.get(f"{service.url}/metrics").text
    assert 'trtllm_requests_total{outcome="cancelled",route="/v1/completions"} 2.0' in cancelled


def ports(connections: list[socket.socket]) -> set[int]:
    return {connection.getsockname()[1] for connection in connections}
