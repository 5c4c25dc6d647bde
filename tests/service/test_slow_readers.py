"""Clients that read slowly or not at all: they cost a stated amount of memory, and nobody else's time."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support import tiny
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import workers
from tests.support.serving import SSE, Service, pack, serve

READERS = 8
# What is merged while a machine is busy is short: of 3000 tokens, all fitted the buffers of two readers once.
TOKENS = 5000
WRITE_TIMEOUT_S = 15
ROUNDS = 3
BODY = {"model": "long-llama", "prompt": "a", "ignore_eos": True, "stream": True, "logprobs": 1}
# uvicorn stops at 64 KiB (uvicorn/protocols/http/flow_control.py); the rest is a connection's and a request's own.
CONNECTION_BYTES = 384 * 1024
PENDING_BYTES = 8


@pytest.fixture(scope="module")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A model that says much in no time."""
    folder = tmp_path_factory.mktemp("long")
    pack(home, "long-llama:test", write_checkpoint(folder / "long-llama", context=4 * TOKENS))
    options = ("--arg", "model=long-llama:test", "--arg", f"write_timeout_s={WRITE_TIMEOUT_S}")
    with serve(home, folder / "log.txt", *options) as service:
        service.wait_ready()
        yield service


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
def slow_readers(service: Service) -> Iterator[list[socket.socket]]:
    """Clients that read a byte a second, once the engine has said all that they asked for."""
    with ExitStack() as stack:
        connections = [stack.enter_context(ask(service, TOKENS)) for _ in range(READERS)]
        over = threading.Event()

        def read() -> None:
            while not over.wait(1):
                for connection in connections:
                    with suppress(ConnectionResetError):
                        connection.recv(1)

        reading = threading.Thread(target=read)
        reading.start()
        try:
            tiny.until(lambda: service.active() == READERS, 30)
            tiny.until(lambda: service.active() == 0, 60)
            yield connections
        finally:
            over.set()
            reading.join()


def quickest(client: httpx.Client) -> float:
    """Seconds that the quickest of several streams takes: the one that the rest of the machine has disturbed least."""

    def once() -> float:
        began = time.monotonic()
        response = client.post("/v1/completions", json={**BODY, "max_tokens": 1000}, headers=SSE)
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
def test_slow_readers(service: Service) -> None:
    """What they have not read is held in bounded memory, slows nobody, and is given up after write_timeout_s.

    A machine may be slow for seconds on end, whoever reads: each kind of time is the best of rounds that are far apart.
    """
    process = psutil.Process(*workers(service))
    alone, beside = [], []
    with httpx.Client(base_url=service.url, timeout=60) as client:
        alone.append(quickest(client))
        before = process.memory_info().rss
        for _ in range(ROUNDS):
            with slow_readers(service) as connections:
                held = process.memory_info().rss - before
                beside.append(quickest(client))
                await_close(process, connections)
                assert not any(b"[DONE]" in rest(connection) for connection in connections)
            print(f"held {held / READERS / 1024:.0f} KiB a reader; beside {beside[-1]:.3f} s, alone {alone[-1]:.3f} s")
            assert held / READERS <= CONNECTION_BYTES + PENDING_BYTES * TOKENS
            alone.append(quickest(client))
        assert min(beside) <= 1.1 * min(alone)
        cancelled = httpx.get(f"{service.url}/metrics").text
        assert f'trtllm_requests_total{{outcome="cancelled",route="/v1/completions"}} {ROUNDS * READERS}.0' in cancelled


def await_close(process: psutil.Process, connections: list[socket.socket]) -> None:
    """They are all open now, and none is after a while."""
    ports = {connection.getsockname()[1] for connection in connections}
    assert ports <= peers(process), "they were to be held"
    tiny.until(lambda: not ports & peers(process), 3 * WRITE_TIMEOUT_S)


def peers(process: psutil.Process) -> set[int]:
    """The ports of those that it is connected with."""
    return {connection.raddr.port for connection in process.net_connections("tcp") if connection.raddr}
