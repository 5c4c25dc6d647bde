"""Clients that leave, that do not read, that come in crowds, that have no key."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.serving import SSE, Service, serve
from tests.e2e.test_faults import timeout
from tests.e2e.test_generate import PROMPT

LONG = {"prompt": PROMPT, "max_tokens": 1024}
# A token a digit: seconds of prefill for the slow model.
LONG_PROMPT = "0123456789" * 300


@pytest.fixture(scope="module")
def slow(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose answers take seconds, and that takes few of them."""
    (keys := tmp_path_factory.mktemp("secrets") / "keys").write_text("\nof a file\n\n  after a line without\r\n")
    options = ("model=" + slow_model, "max_running_requests=3", "max_waiting_requests=2", "api_keys=one,,two words,")
    options = (*options, f"api_keys_file={keys}")
    arguments = [word for option in options for word in ("--arg", option)]
    with serve(home, tmp_path_factory.mktemp("slow") / "log.txt", *arguments) as service:
        service.wait_ready()
        yield service


@pytest.fixture(scope="module")
def crowd(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same with room for many."""
    with serve(home, tmp_path_factory.mktemp("crowd") / "log.txt", "--arg", f"model={slow_model}") as service:
        service.wait_ready()
        yield service


def active(service: Service) -> int:
    """Requests in the engine, by the engine's own count."""
    (triton,) = service.tritons()
    (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--metrics-port="))
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.search(r'nv_trt_llm_request_metrics\{[^}]*request_type="active"[^}]*\} (\S+)', text)
    return int(float(found[1])) if found else 0


def connect(service: Service, body: dict[str, Any], accept: str = "text/event-stream") -> socket.socket:
    """A request on a socket of its own."""
    host, port = service.url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    head = f"POST /generate HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\nauthorization: Bearer one\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(head.encode() + data)
    return connection


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
@pytest.mark.parametrize("count", [1, 64])
def test_client_that_leaves_frees_the_engine(crowd: Service, count: int, accept: str) -> None:
    connections = [connect(crowd, LONG, accept) for _ in range(count)]
    deadline = time.monotonic() + 60
    while active(crowd) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert active(crowd) == count
    for connection in connections:
        connection.recv(100)
        connection.close()
    left = time.monotonic()
    while active(crowd) and time.monotonic() - left < 10:
        time.sleep(0.01)
    # A step of this model with 64 sequences takes longer than the 100 ms in which the engine hears of it.
    assert time.monotonic() - left < (0.5 if count == 1 else 5)
    assert active(crowd) == 0


def test_client_that_leaves_before_the_first_token_frees_the_engine(crowd: Service) -> None:
    """A long prompt is still being read; nothing has been written that could fail."""
    connection = connect(crowd, {"prompt": LONG_PROMPT, "max_tokens": 1000})
    deadline = time.monotonic() + 30
    while not active(crowd) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert active(crowd) == 1
    connection.close()
    deadline = time.monotonic() + 10
    while active(crowd) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert active(crowd) == 0


async def test_overload_is_told_at_once(slow: Service) -> None:
    """3 run, 2 wait, the sixth is turned away; when one is done, the next gets its turn."""
    key = {"authorization": "Bearer one"}
    async with httpx.AsyncClient(base_url=slow.url, timeout=60, headers={**SSE, **key}) as client:

        async def ask() -> httpx.Response:
            return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 100})

        accepted = [asyncio.create_task(ask()) for _ in range(5)]
        async with timeout(20):
            while active(slow) < 3:
                await asyncio.sleep(0.02)
        began = time.monotonic()
        turned_away = await ask()
        assert time.monotonic() - began < 1
        assert turned_away.status_code == 429
        assert int(turned_away.headers["retry-after"]) >= 1
        assert turned_away.json()["error"]["type"] == "overloaded"
        assert active(slow) == 3
        for response in await asyncio.gather(*accepted):
            assert response.status_code == 200
            assert response.text.endswith("data: [DONE]\n\n")


KEY = {"authorization": "Bearer one"}
PROBES = ("/livez", "/readyz", "/healthz")


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer three", "Basic one", "one", "Bearer one, two words", "Bearer onee"]
)
def test_without_a_key_nothing_is_served(slow: Service, header: str | None) -> None:
    """No route but the probes and the page, which asks its user for a key; nor what looks like one of them."""
    spec = httpx.get(f"{slow.url}/docs.json", headers=KEY).json()
    routes = {(method.upper(), path) for path, methods in spec["paths"].items() for method in methods}
    assert {("POST", "/v1/chat/completions"), ("POST", "/generate"), ("GET", "/metrics")} <= routes
    routes = {route for route in routes if route[1] not in PROBES}
    others = (
        "/",
        "/docs.json",
        "/schema.json",
        "/v1/",
        "/nothing",
        "/livez/",
        "//livez",
        "/livez/../metrics",
        "/chat/x",
    )
    with httpx.Client(base_url=slow.url, headers={"authorization": header} if header else {}) as client:
        for method, path in sorted(routes | {("GET", path) for path in others}):
            response = client.request(method, path, json={} if method == "POST" else None)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
        for path in (*PROBES, "/chat"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize("key", ["one", "two words", "of a file", "after a line without"])
def test_each_key_opens(slow: Service, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    response = httpx.post(f"{slow.url}/generate", headers=headers, json={"max_tokens": 1}, timeout=30)
    assert response.status_code == 200
    assert httpx.get(f"{slow.url}/v1/models", headers=headers).status_code == 200


def test_keys_are_in_no_log_and_no_metric(slow: Service) -> None:
    metrics = httpx.get(f"{slow.url}/metrics", headers=KEY)
    assert metrics.status_code == 200
    for key in ("two words", "of a file"):
        assert key not in slow.log.read_text()
        assert key not in metrics.text


def test_prompts_are_in_no_log(slow: Service) -> None:
    secret = "a very particular secret"
    chat = {"model": "slow-llama", "messages": [{"role": "user", "content": secret}], "max_tokens": 1}
    bodies = {"/generate": {"prompt": secret, "max_tokens": 1}, "/v1/chat/completions": chat}
    bodies["/v1/completions"] = {"model": "slow-llama", "prompt": secret, "max_tokens": 1}
    for path, body in bodies.items():
        assert httpx.post(slow.url + path, headers=KEY, json=body, timeout=30).status_code == 200
        refused = httpx.post(slow.url + path, headers=KEY, json=body | {"temperature": secret}, timeout=30)
        assert refused.status_code == 400
    assert "particular" not in slow.log.read_text()


async def test_time_limits_end_a_stream_with_an_error(home: Path, slow_model: str, tmp_path: Path) -> None:
    options = ("--arg", f"model={slow_model}", "--arg", "request_timeout_s=6", "--arg", "first_token_timeout_s=5")
    with serve(home, tmp_path / "log.txt", *options) as service:
        service.wait_ready()
        async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=SSE) as client:
            response = await client.post("/generate", json=LONG)
            kind, data = response.text.split("\n\n")[-2].split("\n")
            assert kind == "event: error"
            assert "not complete after 6 s" in data
            late = await client.post("/generate", json={"prompt": LONG_PROMPT * 2})
            assert late.status_code == 504
            assert "first token within 5 s" in late.json()["error"]["message"]
            async with timeout(5):
                while active(service):
                    await asyncio.sleep(0.02)
