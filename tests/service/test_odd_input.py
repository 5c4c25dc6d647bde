"""Odd requests, some of each kind for each route: never a 5xx, and an error says which field or header is wrong."""

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import httpx
import pytest

from tests.support.odd import BASES, HALF, KEYWORDS, MANY_DIGITS, ODD, REFUSED_AS_JSON, nested
from tests.support.serving import SSE, Service
from tests.support.wire import Answer, ask, connect, get, parse, post, receive

CHAT: dict[str, Any] = {"model": "demo-llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
COMPLETION: dict[str, Any] = {"model": "demo-llama", "prompt": "Hi", "max_tokens": 2}
PROMPT: dict[str, Any] = {"prompt": "Hi", "max_tokens": 2}
WHOLE = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETION, "/generate": PROMPT}
GETS = ["/v1/models", "/v1/models/demo-llama", "/metrics", "/", "/docs.json", "/chat", "/livez", "/readyz", "/healthz"]


FIELDS = {
    "/v1/chat/completions": [
        *(
            "model",
            "messages",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
        ),
        *("n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user", "top_k", "min_p"),
        *("repetition_penalty", "min_tokens", "ignore_eos", "logprobs", "top_logprobs", "response_format", "tools"),
        *("tool_choice", "parallel_tool_calls", "metadata", "no_such_field"),
    ],
    "/v1/completions": ["model", "prompt", "suffix", "echo", "best_of", "logprobs", "stop", "seed", "logit_bias", "n"],
    "/generate": ["prompt", "system_prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop"],
}
ARGUMENTS = [
    "",
    "null",
    "NaN",
    "1",
    '"x"',
    '{"a": 1e400}',
    '{"a": "\\ud83d"}',
    '{"a": ' + MANY_DIGITS + "}",
    "[" * 5000,
]
MESSAGES: list[Any] = [
    *({}, {"role": "user"}, {"role": ["user"], "content": "x"}, {"role": {"a": 1}, "content": "x"}, 1, None, [], "x"),
    {"role": "user", "content": None},
    {"role": "user", "content": [{"type": "text", "text": HALF}]},
    {"role": "user", "content": [{"type": "image_url"}]},
    {"role": "user", "content": "x", "name": "\0"},
    {"role": "tool", "content": "x", "tool_call_id": ""},
]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def send(client: httpx.Client, path: str, body: dict[str, Any], *names: str) -> httpx.Response:
    """Send a body; what is wrong with it is said, with one of the names."""
    response = client.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json", **SSE})
    assert response.status_code < 500, response.text
    assert "Traceback" not in response.text
    if response.status_code != 200:
        error = response.json()["error"]
        said = response.text if path == "/generate" else f"{error['param']} {error['message']}"
        assert any(name in said for name in names), response.text
    return response


@pytest.mark.parametrize(("path", "field"), [(path, field) for path, fields in FIELDS.items() for field in fields])
def test_odd_fields(client: httpx.Client, path: str, field: str) -> None:
    for name, value in ODD.items():
        response = send(client, path, {**WHOLE[path], field: value}, field)
        if name in REFUSED_AS_JSON:
            assert response.status_code == 400, name


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_odd_schemas(client: httpx.Client, keyword: str) -> None:
    """With one base each; tests/unit/test_odd_schemas.py has them all."""
    for value, base in zip(ODD.values(), cycle(BASES), strict=False):
        schema = {"name": "x", "schema": {**base, keyword: value}}
        send(
            client,
            "/v1/chat/completions",
            {**CHAT, "response_format": {"type": "json_schema", "json_schema": schema}},
            "response_format",
            "max_tokens",
        )
        parameters = {"type": "object", "properties": {"q": {"type": "string", keyword: value}}}
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        send(
            client, "/v1/chat/completions", {**CHAT, "tools": [tool], "tool_choice": "required"}, "tools", "max_tokens"
        )


def test_odd_tools_and_messages(client: httpx.Client) -> None:
    for part in ({"description": HALF}, {"name": HALF}, {"strict": 1}, {"parameters": nested(300, {})}):
        tool = {"type": "function", "function": {"name": "f", **part}}
        response = send(client, "/v1/chat/completions", {**CHAT, "tools": [tool]}, "tools[0].function")
        assert response.status_code == 400
    for message in MESSAGES:
        send(client, "/v1/chat/completions", {**CHAT, "messages": [message]}, "messages")
    for arguments in ARGUMENTS:
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
        turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", "content": "1"}]
        send(client, "/v1/chat/completions", {**CHAT, "messages": [*CHAT["messages"], *turns]}, "messages")
    half = {"id": "a", "type": "function", "function": {"name": "f", "arguments": HALF}}
    turns = [{"role": "assistant", "tool_calls": [half]}]
    field = "messages[0].tool_calls[0].function.arguments"
    assert send(client, "/v1/chat/completions", {**CHAT, "messages": turns}, field).status_code == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("key", [MANY_DIGITS, "\u0661", "\u00b2", "-1", "1.0", "", " 1", "99999999"])
def test_odd_keys_of_logit_bias(client: httpx.Client, path: str, key: str) -> None:
    response = send(client, path, {**WHOLE[path], "logit_bias": {key: 1}}, "logit_bias")
    assert response.status_code == 400
    assert len(response.text) < 500


ENCODED: dict[str, tuple[bytes, int]] = {
    "a mark of UTF-8": (b"\xef\xbb\xbf" + json.dumps({**CHAT, **COMPLETION}).encode(), 200),
    "UTF-16": (json.dumps(CHAT).encode("utf-16"), 400),
    "UTF-16 without a mark": (json.dumps(CHAT).encode("utf-16-le"), 400),
    "UTF-32": (json.dumps(CHAT).encode("utf-32"), 400),
    "Latin-1": (b'{"prompt": "caf\xe9"}', 400),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\3\xab\xae\5\0\x43\xbf\xa6\xa3\2\0\0\0", 400),
    "nothing but spaces": (b"   ", 400),
    "a null character": (b"\0", 400),
    "two": (b"{}{}", 400),
    "a comment": (b"{} // x", 400),
    "9,000 brackets": (b"[" * 9_000, 400),
}


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize("kind", ENCODED)
def test_odd_encodings(service: Service, path: str, kind: str) -> None:
    body, status = ENCODED[kind]
    if status == 200:
        body = b"\xef\xbb\xbf" + json.dumps(WHOLE[path]).encode()
    answer = ask(service.url, post(path, body))
    assert answer.status == status
    if status != 200:
        assert answer.json()["error"]["message"]


def check(answer: Answer) -> None:
    assert answer.status < 500, answer.body
    assert b"Traceback" not in answer.body


HEADERS = [
    *("accept: nonsense", "accept: ", "accept: */*;q=x", "accept: application/json, text/event-stream;q=0"),
    *("content-length: -1", "content-length: 1e3", "content-length: 18446744073709551616", "content-length: 0x10"),
    *("transfer-encoding: gzip", "transfer-encoding: chunked, gzip", "transfer-encoding: nonsense"),
    *("content-encoding: gzip", "content-encoding: nonsense", "content-type: application/json; charset=utf-16"),
    *("host: ", "host: a b", "host: \xff", "host: other", "authorization: nonsense", "authorization: Bearer \xff"),
    *("expect: nonsense", "range: bytes=0-1", "if-none-match: *", "cookie: \xff\xfe=;;;", "x: \x80\x9b"),
    *("x-forwarded-for: nonsense", "x-forwarded-proto: nonsense", "forwarded: for=\x22"),
    *("traceparent: nonsense", "traceparent: 00-0-0-0", "tracestate: ,,,", "baggage: %%%", "x-request-id: \xff"),
    *("bentoml-task-id: x", "args-number: x", "sec-websocket-version: x", "upgrade: nonsense", "connection: \xff"),
    *("accept-encoding: nonsense", "accept-language: \xff", "x" * 2000 + ": y", "no colon", ": no name"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_odd_headers(service: Service, header: str) -> None:
    for path in ("/v1/models", "/", "/livez"):
        check(ask(service.url, get(path).replace(b"\r\n\r\n", f"\r\n{header}\r\n\r\n".encode("latin-1"))))
    for path, whole in WHOLE.items():
        head, _, body = post(path, json.dumps(whole).encode()).partition(b"\r\n\r\n")
        name = header.encode("latin-1").partition(b":")[0].lower()
        # Beside the odd one the server is told to close, or what is asked would wait until it does by itself.
        lines = [line for line in head.split(b"\r\n") if line.partition(b":")[0] != name or name == b"connection"]
        check(ask(service.url, b"\r\n".join([*lines, header.encode("latin-1"), b"", body])))


METHODS = ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "NONSENSE", "get", "G\xcbT"]


@pytest.mark.parametrize("method", METHODS)
def test_odd_methods(service: Service, method: str) -> None:
    for path in (*GETS, *WHOLE, "/nothing", "*", "localhost:80"):
        answer = get(path).replace(b"GET", method.encode("latin-1"), 1)
        with connect(service.url) as connection:
            connection.sendall(answer)
            data = receive(connection)
        status = int(data.split(b" ")[1])
        assert status < 500, (path, data)
        if method == "HEAD":
            assert data.endswith(b"\r\n\r\n") or b'"error"' in data  # what is no request at all


PATHS = [
    *(
        "/v1/models/%",
        "/v1/models/%zz",
        "/v1/models/%00",
        "/v1/models/%ff",
        "/v1/models/%0d%0ax:y",
        "/v1/models/\ud83d",
    ),
    *(
        "/v1/models/../../etc/passwd",
        "/static_content/../../../../etc/passwd",
        "/static_content/%2e%2e/%2e%2e/service.py",
    ),
    *(
        "/static_content/",
        "/static_content/%00",
        "/static_content//",
        "//",
        "//v1/models",
        "/v1//models",
        "/%2f",
        "/./",
        "/..",
    ),
    *(
        "/v1/models?",
        "/v1/models?%",
        "/v1/models?a=%ff&a[]=&&&=",
        "/v1/models#x",
        "/v1/models;x",
        "/generate?prompt=%ff",
    ),
    *(
        "/generate/",
        "/v1/chat/completions/",
        "/v1",
        "/v1/",
        "/v1/\x80",
        "http://localhost/v1/models",
        "http://",
        "?",
        "x",
    ),
    *(
        "/v1/models/" + "a" * 8000,
        "/" + "%41" * 2000,
        "/a|b^c`{}\\",
        "/metrics?x=1",
        "/metrics/",
        "/docs.json/x",
        "/chat/x",
    ),
]


@pytest.mark.parametrize("path", PATHS)
def test_odd_paths(service: Service, path: str) -> None:
    raw = path.encode("utf-8", "surrogatepass")
    check(ask(service.url, get("PATH").replace(b"PATH", raw)))
    check(ask(service.url, post("PATH", b"{}").replace(b"PATH", raw)))


RAW = [
    *(b"\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"\0" * 100),
    *(b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n", b"{}\r\n\r\n"),
    *(
        b"GET / HTTP/1.1\nhost: localhost\nconnection: close\n\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n x: y\r\n\r\n",
    ),
    post("/generate", b"{}").replace(b"content-length: 2", b"transfer-encoding: chunked").replace(b"{}", b"zz\r\n{}"),
    post("/generate", b"{}").replace(b"content-length: 2", b"content-length: 2\r\ntransfer-encoding: chunked"),
    post("/generate", b"{}").replace(b"content-length: 2", b"content-length: 2\r\ncontent-length: 3"),
]


@pytest.mark.parametrize("data", RAW)
def test_what_is_hardly_a_request(service: Service, data: bytes) -> None:
    """A 4xx, or nothing at all."""
    with connect(service.url) as connection:
        connection.sendall(data)
        connection.settimeout(2)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except TimeoutError:
            pass  # it waits for more
    if received:
        answer = parse(received)
        assert answer.status in (200, 400), received
        if answer.status == 400:
            assert answer.json()["error"]["message"]


def test_the_log_has_no_traceback(service: Service) -> None:
    """After all of the above."""
    assert "Traceback" not in service.log.read_text("utf-8", "replace")
