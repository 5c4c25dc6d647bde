"""Keys at the door of the whole application: who is let in, how much, and what is said of it in headers and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.api.access import Access
from bento_trtllm.api.asgi import App
from bento_trtllm.api.browsers import Browsers
from bento_trtllm.api.guard import Guard
from bento_trtllm.generation.client import CLIENT
from bento_trtllm.generation.leaving import when_left
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.metrics import key_metrics
from tests.support.demo import MODEL
from tests.support.limits import LIMIT_S
from tests.support.scripted_app import ScriptedApp

KEYS = f"""
keys:
- {{name: search, key: sk-search-0123456789, requests_per_minute: 3, tokens_per_minute: 1000, models: [{MODEL}]}}
- {{name: other, key: sk-other-0123456789, models: [something-else]}}
- {{name: old, key: sk-old-0123456789abc, expires: 2020-01-01}}
"""
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
ADMIN = "admin-key"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Door:
    """An application behind a Guard, as in service.py."""

    def __init__(self, path: Path, *unnamed: str) -> None:
        if not path.exists():
            path.write_text(KEYS)
        self.clock = Clock()
        self.keyring = Keyring(unnamed, path)
        self.ledger = Ledger(1, self.clock)
        self.ledger.keep(self.keyring.accountable())
        self.inner = ScriptedApp("Hello")
        access = Access(self.keyring, self.ledger, ADMIN, self.inner.model.admission.refuse_early)
        inner = cast(App, self.inner.app)
        self.app = Guard(inner, access=access, max_body_bytes=10_000, browsers=Browsers([], []))

    async def ask(self, key: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(cast(Any, self.app))
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            if not path.startswith("/v1/chat"):
                return await client.get(path)
            return await client.post(path, json={"model": MODEL, **CHAT, **body})


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "keys.yaml", "plain")


async def test_a_named_key_is_told_what_is_left_and_then_when_to_come_again(door: Door) -> None:
    left = [await door.ask("sk-search-0123456789") for _ in range(3)]
    assert [answer.status_code for answer in left] == [200] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in left] == ["2", "1", "0"]
    refused = await door.ask("sk-search-0123456789")
    assert refused.status_code == 429
    assert refused.json()["error"] == {
        "message": "The key search has had its 3 requests a minute: try again in 20 s.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert refused.headers["retry-after"] == "20"
    limits = {name: value for name, value in refused.headers.items() if name.startswith("x-ratelimit")}
    assert limits.pop("x-ratelimit-remaining-tokens").isdigit()
    assert limits.pop("x-ratelimit-reset-tokens").endswith("s")
    assert limits == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "1000",
    }
    door.clock.now_s += 21
    assert (await door.ask("sk-search-0123456789")).status_code == 200


async def test_what_each_key_may(door: Door) -> None:
    other = await door.ask("sk-other-0123456789")
    assert (other.status_code, other.json()["error"]["code"]) == (403, "model_not_found")
    assert "does not allow the model" in other.json()["error"]["message"]
    old = await door.ask("sk-old-0123456789abc")
    assert (old.status_code, old.json()["error"]["message"][:24]) == (401, "The key old has expired:")
    for wrong, words in (("", "This server wants an API key:"), ("unknown", "The API key is none of this server's:")):
        refused = await door.ask(wrong)
        assert refused.status_code == 401 and refused.json()["error"]["message"].startswith(words)
    plain = await door.ask("plain")
    assert plain.status_code == 200
    assert not [name for name in plain.headers if name.startswith("x-ratelimit")]


async def test_what_tells_of_all_keys_wants_an_operators(door: Door) -> None:
    statuses = {key: (await door.ask(key, "/metrics")).status_code for key in ("sk-search-0123456789", "plain", ADMIN)}
    assert statuses == {"sk-search-0123456789": 403, "plain": 404, ADMIN: 404}  # 404: it is BentoML's route
    for key in ("sk-search-0123456789", "plain", ""):
        assert (await door.ask(key, "/admin.json")).status_code == 401
    assert (await door.ask(ADMIN)).status_code == 401  # it opens nothing else


async def test_who_shares_a_key_is_told_apart_by_address(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[str] = []
    slot = door.inner.model.admission.slot

    @asynccontextmanager
    async def noting(limit_s: float) -> AsyncIterator[None]:
        clients.append(CLIENT.get().name)
        async with slot(limit_s):
            yield

    monkeypatch.setattr(door.inner.model.admission, "slot", noting)
    await door.ask("plain")
    await door.ask("sk-search-0123456789")
    assert clients == ["127.0.0.1", "search"]


async def test_metrics_count_by_key(door: Door) -> None:
    for _ in range(4):
        await door.ask("sk-search-0123456789")
    await door.ask("plain")
    text = key_metrics.exposition(door.keyring, door.ledger)
    found = {
        (sample.name, sample.labels.get("key")): sample.value
        for family in text_string_to_metric_families(text + "\n")
        for sample in family.samples
    }
    assert found["trtllm_keys_file_valid", None] == 1
    assert found["trtllm_key_requests_total", "search"] == 3
    assert found["trtllm_key_requests_refused_total", "search"] == 1
    assert found["trtllm_key_requests_total", "api_keys"] == 1
    assert "sk-" not in text


async def test_a_client_that_has_left_is_told_of_before_what_answers_it_ends(door: Door) -> None:
    happened: list[str] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        with when_left(lambda: happened.append("told")):
            try:
                while (await receive())["type"] == "http.request":
                    pass
            finally:
                happened.append("ended")

    door.app._app = answer
    bodies = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(bodies)

    async def send(message: Any) -> None:
        pass

    headers = [(b"authorization", b"Bearer plain"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers, "client": ("10.0.0.1", 1)}
    await asyncio.wait_for(door.app(scope, receive, send), LIMIT_S)
    assert happened == ["told", "ended"]
