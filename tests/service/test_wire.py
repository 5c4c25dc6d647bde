"""What a client without a key may claim of the service's connections: bytes, time, and how many."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from statistics import median

import httpx
import pytest

from bento_trtllm.bento.cycle import MAX_DISCARDED_BYTES
from tests.support.limits import LIMIT_S
from tests.support.serving import Service, serve
from tests.support.wire import Answer, ask, closed, connect, get, parse, post, read_one, receive

BODY = b'{"prompt": "hi", "max_tokens": 2}'
CHUNKED = post("/generate", b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
CHUNK = b"10000\r\n" + b"a" * 65536 + b"\r\n"
A_LOT = 32 * 2**20
HEAD_S, BODY_S = 2.0, 2.0
OF_AN_ADDRESS, IN_ALL = 6, 8


@pytest.fixture(scope="module")
def strict(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker with short times and room for few connections."""
    arguments = {
        "head_timeout_s": HEAD_S,
        "body_timeout_s": BODY_S,
        "max_connections": IN_ALL,
        "max_connections_per_address": OF_AN_ADDRESS,
        "workers": 1,
    }
    options = [option for name, value in arguments.items() for option in ("--arg", f"{name}={value}")]
    with serve(home, tmp_path_factory.mktemp("strict") / "log.txt", *options) as service:
        service.wait_ready()
        yield service


def pour(url: str, head: bytes, piece: bytes) -> tuple[Answer, int]:
    """Send a request that never ends; its answer, and how many bytes were taken before it was cut off."""
    sent = 0
    with connect(url) as connection:
        connection.sendall(head)
        connection.settimeout(0.2)
        try:
            while sent < A_LOT:
                sent += connection.send(piece)
        except (TimeoutError, ConnectionError):
            pass
        connection.settimeout(60)
        data = b""
        try:
            while chunk := connection.recv(65536):
                data += chunk
        except ConnectionResetError:
            pass
    return parse(data), sent


ENDLESS = {
    "URL": (b"GET /", b"a" * 65536, 414),
    "header": (b"GET / HTTP/1.1\r\nx: ", b"a" * 65536, 431),
    "header's name": (b"GET / HTTP/1.1\r\n", b"a" * 65536, 431),
    "headers": (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 1000, 431),
    "chunk extension": (CHUNKED + b"2;", b"a" * 65536, 431),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"x: y\r\n" * 1000, 431),
    "body": (CHUNKED, CHUNK, 413),
}


@pytest.mark.parametrize(("head", "piece", "status"), ENDLESS.values(), ids=ENDLESS.keys())
def test_an_endless_request_is_cut_off(service: Service, head: bytes, piece: bytes, status: int) -> None:
    answer, sent = pour(service.url, head, piece)
    assert answer.status == status
    assert answer.json()["error"]["message"].endswith((".", "less."))
    assert sent < A_LOT


TOO_LARGE = {
    "URL": (get("/" + "a" * 8192), 414),
    "URL of the OpenAI API": (get("/v1/models?" + "a" * 8192), 414),
    "headers": (get("/", *["x: " + "y" * 1000] * 40), 431),
    "many headers": (get("/", *[f"x{i}: y" for i in range(101)]), 431),
}


@pytest.mark.parametrize(("request_", "status"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_what_is_too_large_is_said(service: Service, request_: bytes, status: int) -> None:
    answer = ask(service.url, request_)
    assert answer.status == status
    error = answer.json()["error"]
    assert "over" in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


BODIES = {
    "said to be too long": (f"content-length: {10 * 2**20}", b"a" * 10 * 2**20, "1.1", True),
    "of a length that is not said": ("transfer-encoding: chunked", CHUNK * 100 + b"0\r\n\r\n", "1.1", True),
    "that waits to be asked for": ("content-length: 5000000\r\nexpect: 100-continue", b"", "1.1", True),
    "in HTTP/1.0": ("content-length: 5000000", b"a" * 5_000_000, "1.0", True),
    "of a client that closes": ("content-length: 5000000\r\nconnection: close", b"a" * 5_000_000, "1.1", True),
    "that is read to its end": ("content-length: 5000000", b"a" * 5_000_000, "1.1", False),
}


@pytest.mark.parametrize(("said", "body", "version", "ends"), BODIES.values(), ids=BODIES.keys())
def test_who_is_answered_early_knows_whether_to_go_on(
    service: Service, said: str, body: bytes, version: str, ends: bool
) -> None:
    """A connection that will not be read to the request's end is said to close, and the response arrives."""
    head = f"POST /generate HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n{said}\r\n\r\n"
    with connect(service.url) as connection:
        connection.sendall(head.encode())
        with suppress(ConnectionError) if len(body) > MAX_DISCARDED_BYTES else nullcontext():
            connection.sendall(body)
        answer = read_one(connection)
        assert answer.status == 413
        assert (answer.headers.get("connection") == "close") is ends
        if not ends:
            connection.sendall(get("/livez"))
            assert read_one(connection).status == 200
        if 0 < len(body) < MAX_DISCARDED_BYTES:
            assert receive(connection) == b""  # an end, not a reset


def test_what_clients_send_is_not_too_large(service: Service) -> None:
    large = ["x: " + "y" * 7000] * 4 + [f"x{i}: y" for i in range(80)]
    assert ask(service.url, get("/v1/models?" + "a" * 7000, *large)).status == 200


def test_an_endless_url_slows_nobody(service: Service) -> None:
    """Ten clients send all they can; a light request takes what it took before, within a wide margin."""

    def light() -> float:
        times = []
        with httpx.Client(base_url=service.url) as client:
            for _ in range(30):
                began = time.perf_counter()
                assert client.get("/livez").status_code == 200
                times.append(time.perf_counter() - began)
        return median(times)

    stop = threading.Event()

    def attack() -> None:
        with connect(service.url) as connection:
            connection.sendall(b"GET /")
            try:
                while not stop.is_set():
                    connection.sendall(b"a" * 65536)
            except OSError:
                return

    before = light()
    threads = [threading.Thread(target=attack, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    try:
        during = light()
    finally:
        stop.set()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert during < 20 * before + 0.05


# Far more is missing of each body than the pieces that are sent before its time is over.
LONG = b" " * 10_000
SLOW = {
    "line": (b"GET /", b"a", HEAD_S, 408),
    "headers": (b"GET / HTTP/1.1\r\n", b"x: y\r\n", HEAD_S, 408),
    "body": (post("/generate", LONG)[:-9_990], b" ", BODY_S, 408),
    "body of the OpenAI API": (post("/v1/completions", LONG)[:-9_990], b" ", BODY_S, 408),
    "chunked body": (CHUNKED, b"1\r\n \r\n", BODY_S, 408),
    "body that nobody reads": (
        post("/nothing", LONG)[:-9_990].replace(b"connection: close\r\n", b""),
        b" ",
        BODY_S,
        404,
    ),
    "line ends": (b"\r\n", b"\r\n", HEAD_S, None),
    "nothing": (b"", b"", HEAD_S, None),
}


@pytest.mark.parametrize(("head", "piece", "after_s", "status"), SLOW.values(), ids=SLOW.keys())
def test_a_slow_request_is_closed(
    strict: Service, head: bytes, piece: bytes, after_s: float, status: int | None
) -> None:
    """However steadily it goes on."""
    began = time.monotonic()
    with connect(strict.url) as connection:
        connection.settimeout(0.1)
        connection.sendall(head)
        data = b""
        while time.monotonic() < began + LIMIT_S:
            try:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                data += chunk
            except TimeoutError:
                pass
            except ConnectionResetError:
                break
            try:
                connection.sendall(piece)
            except ConnectionError:
                break
        took = time.monotonic() - began
    assert after_s * 0.9 < took < LIMIT_S
    if status is None:
        assert data == b""
    else:
        assert parse(data).status == status


def test_the_time_begins_anew_with_each_request(strict: Service) -> None:
    """A connection that is kept lives as long as its requests are in time, and an answer may take longer."""
    with connect(strict.url) as connection:
        for _ in range(6):
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
            time.sleep(HEAD_S / 4)
            connection.sendall(b"\r\n")
            assert read_one(connection).status == 200


def test_connections_of_one_address_are_bounded(strict: Service) -> None:
    """And those of others are not its business. A connection that closes makes place."""
    with ExitStack() as stack:
        held = [stack.enter_context(connect(strict.url)) for _ in range(OF_AN_ADDRESS)]
        for connection in held:
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        with connect(strict.url) as one_more:
            answer = parse(receive(one_more))
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
        assert f"{OF_AN_ADDRESS} connections" in answer.json()["error"]["message"]
        with connect(strict.url, "127.0.0.2") as other:
            other.sendall(get("/livez"))
            assert parse(receive(other)).status == 200
        held[0].sendall(b"host: localhost\r\nconnection: close\r\n\r\n")
        assert parse(receive(held[0])).status == 200
        with connect(strict.url) as again:
            again.sendall(get("/livez"))
            assert parse(receive(again)).status == 200


def test_connections_in_all_are_bounded_and_the_idle_make_place(strict: Service) -> None:
    time.sleep(HEAD_S + 1)  # those of other tests are gone
    with ExitStack() as stack:
        idle = stack.enter_context(connect(strict.url, "127.0.0.3"))
        idle.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert read_one(idle).status == 200
        busy = [stack.enter_context(connect(strict.url, f"127.0.0.{4 + i}")) for i in range(IN_ALL - 1)]
        for connection in busy:
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        time.sleep(0.1)
        late = stack.enter_context(connect(strict.url, "127.0.0.20"))
        late.sendall(b"GET /livez HTTP/1.1\r\n")
        assert closed(idle)
        time.sleep(0.1)
        with connect(strict.url, "127.0.0.21") as refused:
            assert parse(receive(refused)).status == 503
        for connection in (*busy, late):
            connection.sendall(b"host: localhost\r\nconnection: close\r\n\r\n")
            assert parse(receive(connection)).status == 200


def test_a_proxy_may_have_all_that_is_taken_on(service: Service) -> None:
    """By default one address may have twice the 512 requests that run and wait."""
    with ExitStack() as stack:
        held = [stack.enter_context(connect(service.url)) for _ in range(600)]
        for connection in held:
            connection.sendall(get("/livez"))
        assert all(parse(receive(connection)).status == 200 for connection in held)


def test_pipelined_requests_are_answered_in_order_and_few(service: Service) -> None:
    one = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with connect(service.url) as connection:
        connection.sendall(one * 5 + get("/nothing"))
        data = receive(connection)
    assert data.count(b"HTTP/1.1 200 ") == 5
    assert data.rindex(b"HTTP/1.1 404 ") > data.rindex(b"HTTP/1.1 200 ")
    with connect(service.url) as connection:
        connection.sendall(one.replace(b"/livez", b"/version") * 1000)
        assert closed(connection)


def test_a_client_that_asks_for_another_protocol_is_answered_in_this(service: Service) -> None:
    """Java's client asks for HTTP/2 with each POST, whose body is read all the same."""
    wish = ("upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")
    plain = ask(service.url, post("/generate", BODY))
    request = post("/generate", BODY, *wish).replace(b"connection: close", b"connection: Upgrade, HTTP2-Settings")
    with connect(service.url) as connection:
        connection.sendall(request + get("/livez"))
        data = receive(connection)
    assert plain.status == 200
    assert parse(data).body == plain.body
    assert data.count(b"HTTP/1.1 200 ") == 2
    socket_ = post("/generate", BODY, "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eA==")
    with connect(service.url) as connection:
        connection.sendall(socket_.replace(b"connection: close", b"connection: upgrade"))
        assert parse(receive(connection)).body == plain.body
