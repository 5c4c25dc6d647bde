"""Named keys, on a service of two workers: limits and counts are one for both."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asking import timeout
from tests.support.demo import PROMPT
from tests.support.limits import LIMIT_S
from tests.support.processes import workers
from tests.support.serving import Service, serve

CROWD, LIMIT = 8, 6000
LONG: dict[str, Any] = {"max_tokens": 3000, "ignore_eos": True, "stream": True}
ADMIN = {"authorization": "Bearer the-admin-key"}
LINE = "- {{name: {name}, key: sk-{name}-0123456789, {more}}}\n"


class Keyed:
    """The service, and its files."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.url = service.url
        self.audit = folder / "audit.log"
        self.keys = folder / "keys.yaml"

    async def said_by_both(self, what: str) -> None:
        """Wait until each worker has logged it."""
        async with timeout(LIMIT_S):
            while self.service.log.read_text().count(what) < 2:
                await asyncio.sleep(0.05)

    def admin(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/admin.json", headers=ADMIN).json()
        return found

    def key(self, name: str) -> dict[str, Any]:
        return next(key for key in self.admin()["keys"] if key["name"] == name)

    def clients(self, name: str) -> list[dict[str, Any]]:
        """What a key has in each worker."""
        return [client for client in self.admin()["clients"] if client["client"] == name]

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Its lines of the audit log."""
        lines = map(json.loads, self.audit.read_text("utf-8").splitlines())
        return [line for line in lines if line["key"] == name]

    def counted(self, name: str) -> dict[str, float]:
        """A key's metrics, by their names."""
        text = httpx.get(f"{self.url}/metrics", headers=ADMIN).text
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return {each.name: each.value for each in samples if each.labels.get("key") == name}


def write_keys(path: Path, **keys: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text("keys:\n" + "".join(LINE.format(name=name, more=more) for name, more in keys.items()))
    draft.replace(path)


@pytest.fixture(scope="module")
def keyed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    write_keys(
        folder / "keys.yaml",
        counted="weight: 2",
        limited="requests_per_minute: 5",
        leaving="weight: 1",
        crowd=f"max_running: 1, requests_per_minute: {CROWD + 1}, tokens_per_minute: {LIMIT}",
    )
    options = {"workers": "2", "keys_file": folder / "keys.yaml", "audit_log": folder / "audit.log"}
    arguments = [word for name, value in options.items() for word in ("--arg", f"{name}={value}")]
    with serve(home, folder / "log.txt", *arguments, TRTLLM_ADMIN_KEY="the-admin-key") as service:
        service.wait_ready()
        yield Keyed(service, folder)


async def read(keyed: Keyed, name: str, chunks: int = 10**9) -> int:
    """Read so much of a long answer, and leave; returns how many tokens had come."""
    body = {"model": "demo-llama", "prompt": PROMPT, **LONG, "return_token_ids": True}
    headers = {"authorization": f"Bearer sk-{name}-0123456789"}
    tokens = 0
    async with (
        httpx.AsyncClient(base_url=keyed.url, timeout=60) as client,
        client.stream("POST", "/v1/completions", json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                tokens += len(json.loads(line.removeprefix("data: "))["choices"][0]["token_ids"])
                chunks -= 1
            if not chunks:
                break
    return tokens


async def ask(keyed: Keyed, name: str, **body: Any) -> httpx.Response:
    """On a connection of its own, so that it may meet any worker."""
    async with httpx.AsyncClient(base_url=keyed.url, timeout=60) as client:
        body = {"model": "demo-llama", "prompt": PROMPT, "max_tokens": 5, **body}
        headers = {"authorization": f"Bearer sk-{name}-0123456789"}
        return await client.post("/v1/completions", json=body, headers=headers)


async def test_tokens_are_counted_exactly_and_logged_without_texts(keyed: Keyed) -> None:
    kinds: list[dict[str, Any]] = [{}, {"max_tokens": 9}, {"stream": True, "stream_options": {"include_usage": True}}]
    answers = await asyncio.gather(*(ask(keyed, "counted", **kind) for kind in kinds * 4))
    assert {answer.status_code for answer in answers} == {200}
    usages = [
        json.loads(answer.text.split("\n\n")[-3].removeprefix("data: "))["usage"]
        if answer.headers["content-type"].startswith("text/event-stream")
        else answer.json()["usage"]
        for answer in answers
    ]
    expected = {what: sum(usage[what] for usage in usages) for what in ("prompt_tokens", "completion_tokens")}
    counted = keyed.counted("counted")
    assert counted["trtllm_key_requests_total"] == 12
    assert counted["trtllm_key_prompt_tokens_total"] == expected["prompt_tokens"]
    assert counted["trtllm_key_generation_tokens_total"] == expected["completion_tokens"]
    log = keyed.audit.read_text("utf-8")
    lines = [line for line in map(json.loads, log.splitlines()) if line["key"] == "counted"]
    assert {what: sum(line[what] for line in lines) for what in expected} == expected
    assert {line["request"] for line in lines} == {answer.headers["x-request-id"] for answer in answers}
    assert keyed.audit.stat().st_mode & 0o777 == 0o600
    assert PROMPT[:20] not in log


async def test_a_limit_is_one_for_all_workers(keyed: Keyed) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(keyed, "limited") for _ in range(15)))
    came_back = (time.monotonic() - began) // 12
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 10 - came_back <= len(refused) <= 10
    assert all(int(answer.headers["retry-after"]) <= 12 for answer in refused)
    assert all(answer.headers["x-ratelimit-limit-requests"] == "5" for answer in answers)
    assert keyed.key("limited")["requests"] == 15 - len(refused)
    assert keyed.counted("limited")["trtllm_key_requests_refused_total"] == len(refused)


async def test_tokens_of_those_who_leave_are_counted_too(keyed: Keyed) -> None:
    came = await asyncio.gather(*(read(keyed, "leaving", chunks) for chunks in range(1, 9)))
    async with timeout(LIMIT_S):
        while keyed.key("leaving")["running"] or len(keyed.logged("leaving")) < len(came):
            await asyncio.sleep(0.05)
    counted, lines = keyed.counted("leaving"), keyed.logged("leaving")
    assert "cancelled" in {line["outcome"] for line in lines}
    assert all(1 <= line["completion_tokens"] <= LONG["max_tokens"] for line in lines)
    assert (
        sum(came) <= counted["trtllm_key_generation_tokens_total"] == sum(each["completion_tokens"] for each in lines)
    )
    assert counted["trtllm_key_prompt_tokens_total"] == sum(each["prompt_tokens"] for each in lines) > 0
    assert counted["trtllm_key_requests_total"] == len(came)


async def test_the_admin_page_shows_who_waits_and_what_is_left(keyed: Keyed) -> None:
    """A key that has taken all the slots that it may have, in whichever worker."""
    began = time.monotonic()
    asked = [asyncio.create_task(read(keyed, "crowd")) for _ in range(CROWD)]
    try:
        async with timeout(LIMIT_S):
            while not keyed.counted("crowd").get("trtllm_key_generation_tokens_total"):
                await asyncio.sleep(0.05)
            while sum(each["waiting"] for each in keyed.clients("crowd")) < CROWD - 1:
                await asyncio.sleep(0.05)
            shown = keyed.admin()
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    clients = [each for each in shown["clients"] if each["client"] == "crowd"]
    assert (sum(each["running"] for each in clients), sum(each["waiting"] for each in clients)) == (1, CROWD - 1)
    assert {each["model"] for each in clients} == {"demo-llama:test"}
    assert {each["process"] for each in clients} <= workers(keyed.service)
    assert all((each["waits_s"] or 0) > 0 if each["waiting"] else each["waits_s"] is None for each in clients)
    (model,) = shown["models"]
    for load in (model, next(key for key in shown["keys"] if key["name"] == "crowd")):
        assert (load["running"], load["waiting"]) == (1, CROWD - 1)
    assert [sum(each[state] for each in shown["workers"]) for state in ("running", "waiting")] == [1, CROWD - 1]
    key = next(key for key in shown["keys"] if key["name"] == "crowd")
    requests, tokens = key["requests_per_minute"], key["tokens_per_minute"]
    came_back = (time.monotonic() - began) * (CROWD + 1) / 60
    assert requests["limit"] == CROWD + 1 and 1 <= requests["remaining"] <= 1 + came_back
    assert 0 < requests["reset_s"] <= 60
    assert tokens["limit"] == LIMIT and 0 < tokens["reset_s"] <= 60 and tokens["remaining"] < tokens["limit"]
    async with timeout(LIMIT_S):
        while keyed.clients("crowd"):
            await asyncio.sleep(0.05)


async def test_keys_are_reloaded_and_a_wrong_file_leaves_them(keyed: Keyed) -> None:
    write_keys(keyed.keys, counted="weight: 3", fresh="max_running: 1")
    await keyed.said_by_both("was read again: it has 2 keys")
    assert (await ask(keyed, "fresh")).status_code == 200
    assert keyed.key("counted")["weight"] == 3
    keyed.keys.write_text("keys: [")
    await keyed.said_by_both("the keys stay as they were")
    assert "is not YAML" in keyed.admin()["keys_file_fault"]
    assert (await ask(keyed, "fresh")).status_code == 200
    assert (await ask(keyed, "limited")).status_code == 401


def test_the_admin_page_shows_the_service(keyed: Keyed) -> None:
    assert httpx.get(f"{keyed.url}/admin.json").status_code == 401
    shown = keyed.admin()
    assert {worker["process"] for worker in shown["workers"]} == workers(keyed.service)
    (model,) = shown["models"]
    assert (model["model"], model["slots"], model["engine"]["state"]) == ("demo-llama:test", 256, "ready")
    assert model["engine"]["owner"] in workers(keyed.service)
    page = httpx.get(f"{keyed.url}/admin")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
