"""A service that serves one model, and then another, without a request that fails."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bento_trtllm.manifest import Manifest
from tests.support.asking import NO_REUSE, timeout
from tests.support.demo import ANSWERS, PROMPT
from tests.support.launcher import free_port
from tests.support.limits import LIMIT_S
from tests.support.processes import left_over
from tests.support.serving import MACHINES, SSE, Service, environment, pack, serve
from tests.support.standin.place import Standin
from tests.support.warm import fork

pytestmark = [pytest.mark.slow, pytest.mark.engines("openvino")]
DEMO = "demo-llama:test"
SWAP_LIMIT_S = 90
CLIENTS = 8


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


LOADING, DONE = "the new engine is loading", "done: the old engine has ended"


def stages(service: Service) -> list[str]:
    """Those of all swaps, from the log, with the first words of their reasons."""
    return re.findall(r"\bswap to \S+: ([^:\n]+)", service.log.read_text())


def check_printed(printed: str, *texts: str) -> None:
    """Each line begins as one of the texts, in their order; the last is DONE. What is over soon the command misses."""
    *lines, last = [line.split(": ", 1)[1] for line in printed.splitlines()]
    texts_left = iter(texts)
    assert [line for line in lines if not any(line.startswith(text) for text in texts_left)] == []
    assert last == DONE


class Load:
    """Clients that ask again and again, by the one name that all packs have; every other one has streams."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answers: list[tuple[bool, int, str]] = []
        """Whether it was streamed, its status, and what it says: its text, or all of it if it is not whole."""

    async def ask(self, *, stream: bool = False) -> str:
        chat = {"model": "demo-llama", "messages": [{"role": "user", "content": PROMPT}]}
        body = {**chat, "max_tokens": 24, "temperature": 0, "stream": stream}
        response = await self._client.post("/v1/chat/completions", json=body)
        text = said(response.text, stream=stream) if response.status_code == 200 else response.text
        self.answers.append((stream, response.status_code, text))
        return text

    async def until(self, text: str) -> None:
        """Returns when that was the answer once more, as a stream and not."""
        begin = len(self.answers)
        async with timeout(LIMIT_S):
            while not {(False, 200, text), (True, 200, text)} <= {*self.answers[begin:]}:
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def loop(number: int) -> None:
            while not over.is_set():
                await self.ask(stream=number % 2 == 0)
                await asyncio.sleep(0.2)  # the engines need these cores, too

        tasks = [asyncio.create_task(loop(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*tasks)


def said(answer: str, *, stream: bool) -> str:
    """The text of a chat's answer; the answer as it is if it does not end as one that has all its tokens does."""
    if not stream:
        (choice,) = json.loads(answer)["choices"]
        return str(choice["message"]["content"]) if choice["finish_reason"] == "length" else answer
    *events, done = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")] or [""]
    choices = [choice for event in events for choice in json.loads(event).get("choices", [])]
    if done != "[DONE]" or not choices or choices[-1]["finish_reason"] != "length":
        return answer
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def copied(home: Path, tag: str, version: str) -> Path:
    """Another version of the demo's pack, with what the pack of that tag has; returns its folder."""
    store = home / "models"
    name, _, old = tag.partition(":")
    pack = store / "demo-llama" / version
    shutil.rmtree(pack, ignore_errors=True)
    shutil.copytree(store / name / old, pack)
    description = (pack / "model.yaml").read_text().replace(f"name: {name}", "name: demo-llama")
    (pack / "model.yaml").write_text(description.replace(f"version: {old}", f"version: {version}"))
    return pack


@pytest.fixture(scope="module")
def slow(home: Path, slow_model: str) -> Iterator[str]:
    """A version of the demo that says something else, slowly."""
    pack = copied(home, slow_model, "slow")
    yield "demo-llama:slow"
    shutil.rmtree(pack)


def damage(home: Path, *, seal: bool) -> str:
    """The demo's pack with an engine that does not start, as if it had been packed so or not; returns its tag."""
    pack = copied(home, DEMO, "damaged")
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


def wrong(load: Load, *right: str) -> list[tuple[bool, int, str]]:
    """What was answered besides; each text that is right must have been there."""
    assert {*right} <= {text for _, _, text in load.answers}
    return [answer for answer in load.answers if answer[1:] not in [(200, text) for text in right]]


async def test_another_model_takes_over_under_load(home: Path, slow: str, tmp_path: Path) -> None:
    """And back. What has begun is answered to its end by the model that began it."""
    options = ("--arg", f"model={slow}", "--arg", "workers=2")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        async with (
            httpx.AsyncClient(base_url=service.url, timeout=LIMIT_S, limits=NO_REUSE) as client,
            client.stream("POST", "/generate", json={"prompt": PROMPT, "max_tokens": 240}, headers=SSE) as long,
        ):
            lines = long.aiter_lines()
            await anext(lines)
            reading = asyncio.create_task(_rest(lines))
            load = Load(client)
            before = await load.ask()
            async with load.running():
                await load.until(before)
                code, printed = await swap(service, home, DEMO)
                assert code == 0, printed
                check_printed(printed, LOADING, "new requests go to it; the old engine finishes its answers")
                rest = await reading
                assert (rest[-1], '"finish_reason":"length"' in rest[-2].replace(" ", "")) == ("data: [DONE]", True)
                after = await load.ask()
                assert after != before and ANSWERS[PROMPT].startswith(after)
                await load.until(after)
            # One that dies serves what the others serve when it comes back.
            victim = next(p for p in service.process.children() if any("worker.service" in a for a in p.cmdline()))
            victim.kill()
            victim.wait(60)
            service.wait_ready()
            async with timeout(60):
                while len(service.process.children()) < 2:
                    await asyncio.sleep(0.1)
            service.wait_ready()
            assert {await generated(client) for _ in range(10)} == {ANSWERS[PROMPT]}
            assert await swap(service, home, DEMO) == (0, f"{DEMO}: {DONE}\n")
            # What cannot be served changes nothing.
            code, printed = await swap(service, home, "demo-llama:none")
            assert (code, printed.startswith("error: the model store has no model demo-llama:none")) == (2, True)
            code, printed = await swap(service, home, damage(home, seal=False))
            assert (code, printed.startswith("error: the model demo-llama:damaged is damaged")) == (2, True)
            async with load.running():
                await load.until(after)
                code, printed = await swap(service, home, damage(home, seal=True))
                assert (code, "is not served, the old model is: " in printed) == (2, True)
                await load.until(after)
                assert (await swap(service, home, slow))[0] == 0
                assert await load.ask() == before
                await load.until(before)
        assert wrong(load, before, after) == []
        assert service.stop() == 0
        beside = ["loading", "moving", "done"]
        assert [stage.split()[0] for stage in stages(service)] == [*beside, "done", "loading", "failed", *beside]
    assert left_over(str(tmp_path)) == []


async def check_pause(service: Service, home: Path, *texts: str) -> None:
    """A swap to the demo under load, with a pause; `texts` are what the command prints before it moves requests."""
    async with httpx.AsyncClient(base_url=service.url, timeout=LIMIT_S, limits=NO_REUSE) as client:
        load = Load(client)
        before = await load.ask()
        async with load.running():
            await load.until(before)
            code, printed = await swap(service, home, DEMO)
            assert code == 0, printed
            check_printed(printed, *texts, "new requests go to it")
            after = await load.ask()
            assert ANSWERS[PROMPT].startswith(after)
            await load.until(after)
    assert wrong(load, before, after) == []


async def test_where_both_do_not_fit_requests_wait(home: Path, slow: str, tmp_path: Path) -> None:
    """One port of Triton for other programs is one that only one engine can have."""
    port = free_port()
    options = ("--arg", f"model={slow}", "--arg", "workers=2", "--arg", f"grpc_port={port}")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        reason = f"only one of the two can listen at grpc_port {port}"
        await check_pause(service, home, f"both do not fit ({reason}): new requests wait until", LOADING)
        assert service.stop() == 0
        assert stages(service) == [f"pausing ({reason})", "loading (the old engine has ended)", "moving", "done"]
    assert left_over(str(tmp_path)) == []


async def test_on_a_gpu_with_room_for_one_requests_wait(tmp_path: Path) -> None:
    """A machine on which a second Triton ends as it starts."""
    home = tmp_path / "bentoml"
    machine = MACHINES[home] = Standin(tmp_path / "standin", "25.12")
    pack(home, DEMO)
    copied(home, DEMO, "old")
    shell, rest = machine.server.read_text().split("\n", 1)
    taken = f'exec 9> "{machine.folder}/gpu"\nflock --nonblock 9 || {{ echo "out of memory" >&2; exit 1; }}'
    machine.server.write_text(f"{shell}\n{taken}\n{rest}")
    options = ("--arg", "model=demo-llama:old", "--arg", "workers=2")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        reason = "on the GPU the new engine did not start beside the old one"
        await check_pause(service, home, LOADING, f"both do not fit ({reason}: ", LOADING)
        assert service.stop() == 0
        alone = ["loading (the old engine has ended)", "moving", "done"]
        assert stages(service) == ["loading", f"pausing ({reason}", *alone]
    assert left_over(str(tmp_path)) == []
