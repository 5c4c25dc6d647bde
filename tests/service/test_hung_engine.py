"""The OpenVINO engine's loop stands still or computes for long, while its process is well and takes requests."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bento_trtllm.triton.process.metrics import iterations, scrape
from tests.support.asking import timeout
from tests.support.demo import PROMPT
from tests.support.serving import SSE, Service, before_each_step, pack, serve

STALL_S = 4
# A flag's content says how a step goes on.
FAULT = """flag = {flag!r}
while os.path.exists(flag):
    with open(flag) as file:
        if file.read() == "compute":
            sum(range(100_000))
        else:
            time.sleep(0.01)"""


@dataclass
class Victim:
    service: Service
    flag: Path

    async def steps(self) -> float:
        (triton,) = self.service.tritons()
        (port,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--metrics-port="))
        found = iterations(await scrape(f"127.0.0.1:{port}"))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def victim(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A packed model whose loop has a door to stand still at."""
    folder = tmp_path_factory.mktemp("hung")
    tag, flag = pack(home, "hung-llama:test"), folder / "flag"
    before_each_step(home, tag, FAULT.format(flag=str(flag)))
    settings = {"model": tag, "stall_limit_s": STALL_S, "step_limit_s": 60, "restart_max_delay_s": 1}
    options = [word for name, value in settings.items() for word in ("--arg", f"{name}={value}")]
    with serve(home, folder / "log.txt", *options) as service:
        service.wait_ready()
        yield Victim(service, flag)


async def ask(client: httpx.AsyncClient, max_tokens: int) -> httpx.Response:
    return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": max_tokens}, headers=SSE)


async def test_a_step_that_computes_for_long_is_no_hang(victim: Victim) -> None:
    before = victim.service.tritons()[0].pid
    async with httpx.AsyncClient(base_url=victim.service.url, timeout=60) as client:
        assert (await ask(client, 5)).status_code == 200
        victim.flag.write_text("compute")
        answer = asyncio.create_task(ask(client, 20))
        await asyncio.sleep(3 * STALL_S)
        assert not answer.done()
        assert (await client.get("/readyz")).status_code == 200
        victim.flag.unlink()
        assert (await asyncio.wait_for(answer, 60)).text.endswith("data: [DONE]\n\n")
    assert [triton.pid for triton in victim.service.tritons()] == [before]


async def test_a_loop_that_stands_still_is_found(victim: Victim) -> None:
    async with httpx.AsyncClient(base_url=victim.service.url, timeout=60) as client:
        first = await victim.steps()
        await asyncio.sleep(1)
        assert (await ask(client, 40)).status_code == 200
        assert await victim.steps() > first, "it counts as it steps"
        before = victim.service.tritons()[0].pid
        victim.flag.write_text("sleep")
        answer = asyncio.create_task(ask(client, 20))
        struck = time.monotonic()
        async with timeout(60):
            while (await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.05)
        assert time.monotonic() - struck >= STALL_S
        assert f"The engine did not answer for {STALL_S} s." in (await client.get("/readyz")).text
        assert (await asyncio.wait_for(answer, 60)).status_code == 503
        victim.flag.unlink()
        await asyncio.to_thread(victim.service.wait_ready)
        assert (await ask(client, 5)).status_code == 200
    assert [triton.pid for triton in victim.service.tritons()] != [before]
