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
    write_keys(folder / "keys.yaml", counted="weight: 2", limited="requests_per_minute: 5")
    options = {"workers": "2", "keys_file": folder / "keys.yaml", "audit_log": folder / "audit.log"}
    arguments = [word for name, value in options.items() for word in ("--arg", f"{name}={value}")]
    with serve(home, folder / "log.txt", *arguments, TRTLLM_ADMIN_KEY="the-admin-key") as service:
        service.wait_ready()
        yield Keyed(service, folder)


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
