"""Clients that come in crowds, that wait too long, that have no key."""

import asyncio
import http.client
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.asking import timeout
from tests.support.demo import PROMPT
from tests.support.serving import SSE, Service, serve

LONG = {"prompt": PROMPT, "max_tokens": 1024}
# A token a digit, and STEP_TOKENS of them a step: seconds of prefill for the slow model.
LONG_PROMPT = "0123456789" * 600
STEP_TOKENS = 32
# The best of them counts, where a time is the claim.
ROUNDS = 5


@pytest.fixture(scope="module")
def slow(home: Path, slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose answers take seconds, and that takes few of them."""
    (keys := tmp_path_factory.mktemp("secrets") / "keys").write_text("\nof a file\n\n  after a line without\r\n")
    options = ["model=" + slow_model, "max_running_requests=3", "max_waiting_requests=2", "api_keys=one,,two words,"]
    options.append(f"api_keys_file={keys}")
    arguments = [word for option in options for word in ("--arg", option)]
    with serve(home, tmp_path_factory.mktemp("slow") / "log.txt", *arguments) as service:
        service.wait_ready()
        yield service


async def test_overload_is_told_at_once(slow: Service) -> None:
    """3 run, 2 wait, the sixth is turned away; when one is done, the next gets its turn."""
    key = {"authorization": "Bearer one"}
    async with httpx.AsyncClient(base_url=slow.url, timeout=60, headers={**SSE, **key}) as client:

        async def ask() -> httpx.Response:
            return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 100})

        accepted = [asyncio.create_task(ask()) for _ in range(5)]
        async with timeout(60):
            while slow.active() < 3:
                await asyncio.sleep(0.02)
        for _ in range(ROUNDS):
            began = time.monotonic()
            turned_away = await ask()
            assert turned_away.status_code == 429
            if time.monotonic() - began < 1:
                break
        else:
            pytest.fail("not at once")
        assert int(turned_away.headers["retry-after"]) >= 1
        assert turned_away.json()["error"]["code"] == "rate_limit_exceeded"
        assert slow.active() <= 3
        for response in await asyncio.gather(*accepted):
            assert response.status_code == 200
            assert response.text.endswith("data: [DONE]\n\n")


KEY = {"authorization": "Bearer one"}
PROBES = ("/livez", "/readyz", "/healthz", "/health", "/ping")


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
    response = httpx.post(f"{slow.url}/generate", headers=headers, json={"prompt": "hi", "max_tokens": 1}, timeout=60)
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
        assert httpx.post(slow.url + path, headers=KEY, json=body, timeout=60).status_code == 200
        refused = httpx.post(slow.url + path, headers=KEY, json=body | {"temperature": secret}, timeout=60)
        assert refused.status_code == 400
    assert "particular" not in slow.log.read_text()


def is_empty(service: Service) -> bool:
    """Whether nothing runs in the engine. When it is continued, Triton's stub now and then dies of a lock that Triton
    had waited for meanwhile (boost::interprocess::lock_exception): then the engine that comes after it is empty.
    """
    try:
        return service.active() == 0
    except (OSError, http.client.HTTPException, ValueError):
        return False


async def test_time_limits_end_a_stream_with_an_error(home: Path, slow_model: str, tmp_path: Path) -> None:
    """The whole answer's, that of the line, the first token's, and the one between tokens."""
    limits = ("request_timeout_s=5", "first_token_timeout_s=2.5", "between_tokens_timeout_s=2")
    options = (f"model={slow_model}", "max_running_requests=1", f"max_num_tokens={STEP_TOKENS}", *limits)
    arguments = [word for option in options for word in ("--arg", option)]
    with serve(home, tmp_path / "log.txt", *arguments) as service:
        service.wait_ready()
        before = [triton.pid for triton in service.tritons()]
        async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=SSE) as client:
            first = asyncio.create_task(client.post("/generate", json=LONG))
            async with timeout(60):
                while not service.active():
                    await asyncio.sleep(0.01)
            in_line = await client.post("/generate", json=LONG)
            assert not first.done()
            assert in_line.status_code == 503
            assert int(in_line.headers["retry-after"]) >= 1
            assert "busy with other requests for 2.5 s" in in_line.json()["error"]["message"]
            kind, data = (await first).text.split("\n\n")[-2].split("\n")
            assert kind == "event: error"
            assert "not complete after 5 s" in data
            late = await client.post("/generate", json={"prompt": LONG_PROMPT})
            assert late.status_code == 504
            assert "first token within 2.5 s" in late.json()["error"]["message"]
            async with timeout(60):
                while service.active():
                    await asyncio.sleep(0.02)
            assert [triton.pid for triton in service.tritons()] == before, "the engine was slow, and well"
            async with client.stream("POST", "/generate", json=LONG) as response:
                lines = response.aiter_lines()
                await anext(lines)
                service.engine().suspend()
                try:
                    rest = [line async for line in lines if line]
                finally:
                    service.engine().resume()
            assert rest[-2] == "event: error"
            assert "no further token within 2 s" in rest[-1]
            async with timeout(60):
                while not is_empty(service):
                    await asyncio.sleep(0.02)
