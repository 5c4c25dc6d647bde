"""Clients that speak HTTP/1.0 and know no chunks: a whole answer ends the connection, a cut one resets it."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.demo import PROMPT
from tests.support.serving import SSE, Service, serve
from tests.support.tiny import until
from tests.support.wire import ask, connect, parse, post, receive

LONG = json.dumps({"prompt": PROMPT, "max_tokens": 1024}).encode()
ACCEPT = f"accept: {SSE['accept']}"


@pytest.fixture(scope="module")
def slow(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose answers take seconds."""
    options = ("--arg", f"model={slow_model}", "--arg", "workers=1")
    with serve(home, tmp_path_factory.mktemp("slow") / "log.txt", *options) as service:
        service.wait_ready()
        yield service


@pytest.mark.parametrize("accept", [(), (ACCEPT,)], ids=["text", "events"])
def test_a_whole_answer_is_the_same_without_chunks(service: Service, accept: tuple[str, ...]) -> None:
    body = json.dumps({"prompt": PROMPT}).encode()
    answer, old = (ask(service.url, post("/generate", body, *accept, version=version)) for version in ("1.1", "1.0"))
    assert old.status == answer.status == 200
    assert "transfer-encoding" in answer.headers
    assert not {"transfer-encoding", "content-length"} & old.headers.keys()
    assert old.headers["connection"] == "close"
    assert text(old.body) == text(answer.body)


def text(body: bytes) -> str:
    """The text of an answer: how much of it is in one event is up to the clock."""
    events = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: {")]
    return "".join(json.loads(event).get("text", "") for event in events) if events else body.decode()


def test_answers_of_known_length_and_errors_have_it(service: Service) -> None:
    chat = {"model": "demo-llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    for body, status in ((chat, 200), ({**chat, "n": 0}, 400)):
        answer = ask(service.url, post("/v1/chat/completions", json.dumps(body).encode(), version="1.0"))
        assert answer.status == status
        assert int(answer.headers["content-length"]) == len(answer.body)


def kill_engine(service: Service) -> None:
    service.engine().kill()


def kill_worker(service: Service) -> None:
    (worker,) = (p for p in service.process.children(recursive=True) if "--worker-id" in p.cmdline())
    worker.kill()


def has_another_engine(service: Service, before: int) -> bool:
    with suppress(ValueError, psutil.Error):  # there is none
        return service.engine().pid != before
    return False


def begin(service: Service, *lines: str) -> Iterator[bytes]:
    """What is received of a long answer: its beginning, then all that comes until the end."""
    with connect(service.url) as connection:
        connection.sendall(post("/generate", LONG, *lines, version="1.0"))
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < 20:
            data += connection.recv(65536)
        yield data
        yield receive(connection)


@pytest.mark.parametrize("fault", [kill_engine, kill_worker])
def test_a_cut_answer_is_no_whole_one(slow: Service, fault: Callable[[Service], None]) -> None:
    before = slow.engine().pid
    stream = begin(slow)
    assert parse(next(stream)).status == 200
    fault(slow)
    with pytest.raises(ConnectionResetError):
        next(stream)
    until(lambda: has_another_engine(slow, before))
    slow.wait_ready()


def test_an_event_of_an_error_is_the_end_of_a_whole_response(slow: Service) -> None:
    before = slow.engine().pid
    stream = begin(slow, ACCEPT)
    next(stream)
    kill_engine(slow)
    *_, kind, data = next(stream).decode().strip().split("\n")
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "engine_unavailable"
    until(lambda: has_another_engine(slow, before))
    slow.wait_ready()
