"""A service that serves one model, and then another, without a request that fails."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bento_trtllm.manifest import Manifest
from tests.support.asking import timeout
from tests.support.demo import ANSWERS, PROMPT
from tests.support.launcher import free_port
from tests.support.processes import left_over
from tests.support.serving import SSE, Service, environment, serve
from tests.support.warm import fork

pytestmark = [pytest.mark.slow, pytest.mark.engines("openvino")]
DEMO = "demo-llama:test"
SWAP_LIMIT_S = 90


async def swap(service: Service, home: Path, *arguments: str) -> tuple[int, str]:
    """`bento-trtllm swap`: its exit code, and what it printed."""

    def run() -> tuple[int, str]:
        with fork(
            "bento_trtllm", ["swap", *arguments, "--pid", str(service.process.pid)], environment(home)
        ) as swapping:
            swapping.process.join(SWAP_LIMIT_S)
            assert swapping.process.exitcode is not None, swapping.err()
            return swapping.process.exitcode, swapping.out() + swapping.err()

    return await asyncio.to_thread(run)


class Load:
    """Clients that ask without a pause. Each answer is its status and its text."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []

    async def ask(self, client: httpx.AsyncClient) -> str:
        body = {"prompt": PROMPT, "max_tokens": 8}
        response = await client.post("/v1/completions", json={**body, "model": (await name(client))})
        if response.status_code == 404:  # asked for by the name of the model before
            return ""
        self.answers.append((response.status_code, response.text))
        return response.text

    @asynccontextmanager
    async def running(self, client: httpx.AsyncClient, clients: int) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def loop() -> None:
            while not over.is_set():
                await self.ask(client)
                await asyncio.sleep(0.05)  # the engines need these cores, too

        tasks = [asyncio.create_task(loop()) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*tasks)


async def name(client: httpx.AsyncClient) -> str:
    return str((await client.get("/v1/models")).json()["data"][0]["id"])


def damage(home: Path, *, seal: bool) -> str:
    """The demo's pack with an engine that does not start, as if it had been packed so or not; returns its tag."""
    store = home / "models/demo-llama"
    shutil.rmtree(store / "damaged", ignore_errors=True)
    pack = shutil.copytree(store / "test", store / "damaged")
    description = (pack / "model.yaml").read_text()
    (pack / "model.yaml").write_text(description.replace("version: test", "version: damaged"))
    manifest = Manifest.read(pack)
    with (pack / "repository/tensorrt_llm/1/model.py").open("a") as model:
        model.write("raise RuntimeError('an engine that does not start')\n")
    if seal:
        manifest.write(pack)
    return "demo-llama:damaged"


async def _rest(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines if line]


async def generated(client: httpx.AsyncClient) -> str:
    response = await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 1024})
    assert response.status_code == 200
    return response.text


async def test_another_model_takes_over_under_load(home: Path, slow_model: str, tmp_path: Path) -> None:
    """And back. What has begun is answered to its end by the model that began it."""
    options = ("--arg", f"model={slow_model}", "--arg", "workers=2")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        load = Load()
        async with (
            httpx.AsyncClient(base_url=service.url, timeout=60) as client,
            client.stream("POST", "/generate", json={"prompt": PROMPT, "max_tokens": 60}, headers=SSE) as long,
        ):
            lines = long.aiter_lines()
            await anext(lines)
            reading = asyncio.create_task(_rest(lines))
            async with load.running(client, 2):
                code, printed = await swap(service, home, DEMO)
                assert (code, [line.split(": ")[1] for line in printed.splitlines()]) == (
                    0,
                    [
                        "the new engine is loading",
                        "new requests go to it; the old engine finishes its answers",
                        "done",
                    ],
                )
                rest = await reading
                assert (rest[-1], '"finish_reason":"length"' in rest[-2].replace(" ", "")) == ("data: [DONE]", True)
            assert {await generated(client) for _ in range(6)} == {ANSWERS[PROMPT]}
            assert {await name(client) for _ in range(6)} == {"demo-llama"}
            # One that dies serves what the others serve when it comes back.
            victim = next(p for p in service.process.children() if any("worker.service" in a for a in p.cmdline()))
            victim.kill()
            victim.wait(60)
            service.wait_ready()
            async with timeout(60):
                while len(service.process.children()) < 2:
                    await asyncio.sleep(0.1)
            service.wait_ready()
            assert {await name(client) for _ in range(10)} == {"demo-llama"}
            assert await swap(service, home, DEMO) == (0, f"{DEMO}: done: the old engine has ended\n")
            # What cannot be served changes nothing.
            code, printed = await swap(service, home, "demo-llama:none")
            assert (code, printed.startswith("error: the model store has no model demo-llama:none")) == (2, True)
            code, printed = await swap(service, home, damage(home, seal=False))
            assert (code, printed.startswith("error: the model demo-llama:damaged is damaged")) == (2, True)
            code, printed = await swap(service, home, damage(home, seal=True))
            assert (code, "is not served, the old model is: " in printed) == (2, True)
            assert await generated(client) == ANSWERS[PROMPT]
            assert (await swap(service, home, slow_model))[0] == 0
            assert await name(client) == slow_model.split(":", maxsplit=1)[0]
        assert {status for status, _ in load.answers} == {200}
        assert service.stop() == 0
    assert left_over(str(tmp_path)) == []


async def test_where_both_do_not_fit_requests_wait(home: Path, slow_model: str, tmp_path: Path) -> None:
    """One port of Triton for other programs is one that only one engine can have."""
    options = ("--arg", f"model={slow_model}", "--arg", "workers=2", "--arg", f"grpc_port={free_port()}")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        load = Load()
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client, load.running(client, 2):
            code, printed = await swap(service, home, DEMO)
            said = [line.split(": ", 1)[1] for line in printed.splitlines()]
            assert (code, said[0].startswith("both do not fit (only one of the two can listen at grpc_port")) == (
                0,
                True,
            )
            assert said[-1] == "done: the old engine has ended"
            assert {await generated(client) for _ in range(6)} == {ANSWERS[PROMPT]}
        assert {status for status, _ in load.answers} == {200}
        assert service.stop() == 0
    assert left_over(str(tmp_path)) == []
