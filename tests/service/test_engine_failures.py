"""An engine that fails or hangs in NVIDIA's manner: clients are told the truth in our words, and it is started anew.

On the stand-in, whose backend answers a `stop` in Triton's thread while its Executor hangs, goes on after an error in a
step, and keeps a response factory of each request that it refused.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.asking import timeout
from tests.support.demo import PROMPT
from tests.support.inference import infer
from tests.support.limits import ERRORS, LIMIT_S, STALL_S
from tests.support.serving import MACHINES, SSE, Service, serve
from tests.support.standin.place import ENGINES, Standin

pytestmark = pytest.mark.engines(*ENGINES, "pytorch")

ANEW_S = 60
FAILED = {
    "message": "The engine failed: see the server's log.",
    "type": "server_error",
    "param": None,
    "code": "engine_unavailable",
}
OURS_ALONE = re.compile(r"0x[0-9a-f]+|/workspace|\.cpp|Assertion|CUDA|TensorRT-LLM\]|requestId|\n")
"""What no client may read."""

TOO_LONG = {
    "tensorrt": (
        "Prompt length (600) exceeds maximum input length (512). Set log level to info",
        "The prompt is 600 tokens long, and the engine takes 512: shorten the prompt.",
    ),
    "pytorch": (
        "`default_max_tokens` (-88) must be greater than 0, `default_max_tokens` (-88) = max_seq_len (512)",
        "The prompt does not fit the KV cache: enlarge the cache or shorten it.",
    ),
}
"""What an engine says of a prompt (TensorRT-LLM's LLM API: _deduce_max_tokens in executor/base_worker.py), and what we
say."""


@pytest.fixture(scope="module")
def standin(home: Path) -> Standin:
    return MACHINES[home]


@pytest.fixture
def victim(breakable_service: Service, standin: Standin) -> Iterator[Service]:
    standin.wish()
    breakable_service.wait_ready()
    # What the first request of an engine costs is the CPU's, and counts for nothing here.
    warm = httpx.post(f"{breakable_service.url}/generate", json={"prompt": PROMPT, "max_tokens": 5}, timeout=60)
    assert warm.status_code == 200, warm.text
    yield breakable_service
    standin.wish()


async def ask(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 5, **body}, headers=SSE)


async def started_anew(client: httpx.AsyncClient, victim: Service, before: int) -> None:
    """Wait until another Triton is there, and it answers."""
    async with timeout(ANEW_S):
        while not [t for t in victim.tritons() if t.pid != before] or (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
    assert (await ask(client)).status_code == 200


@pytest.mark.parametrize("at_first", [False, True])
async def test_a_hung_engine_is_found(victim: Service, standin: Standin, engine: str, at_first: bool) -> None:
    """In the midst of answers, and at the first step after it was idle, when its metrics say that nothing is active."""
    before = victim.tritons()[0].pid
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        if at_first:
            standin.wish(hang=True)
        else:
            standin.wish(pause_s=0.1)
        asked = [asyncio.create_task(ask(client, max_tokens=1024)) for _ in range(2)]
        if not at_first:
            async with timeout(60):
                while victim.active() < 2:
                    await asyncio.sleep(0.01)
            standin.wish(hang=True)
        struck = time.monotonic()
        async with timeout(60):
            while (await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.05)
        assert time.monotonic() - struck >= STALL_S / 2
        assert f"The engine did not answer for {STALL_S} s" in (await client.get("/readyz")).text
        standin.wish()
        for answer in await asyncio.wait_for(asyncio.gather(*asked), LIMIT_S):
            # Our Triton model counts a request when it comes, NVIDIA's backend when it is computed.
            counted_early = engine == "pytorch" and answer.status_code == 503
            assert answer.status_code == (503 if at_first or counted_early else 200)
            assert "engine_unavailable" in answer.text and "[DONE]" not in answer.text
        await started_anew(client, victim, before)


async def test_an_engine_that_is_slow_or_idle_is_left_alone(victim: Service, standin: Standin) -> None:
    """Steps of nearly half the limit, longer than it in all, and then nothing for longer than it."""
    before = victim.tritons()[0].pid
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        standin.wish(pause_s=STALL_S * 0.4)
        assert (await ask(client, max_tokens=4)).text.endswith("data: [DONE]\n\n")
        standin.wish()
        await asyncio.sleep(1.5 * STALL_S)
        assert (await client.get("/readyz")).status_code == 200
    assert [t.pid for t in victim.tritons()] == [before]


@pytest.mark.parametrize(("text", "after"), [("out_of_memory", 0), ("no_blocks", 2)])
async def test_errors_that_stay_are_the_engines_and_end_it(
    victim: Service, standin: Standin, text: str, after: int
) -> None:
    """At the first token a 503, in mid-stream an event; after some in a row the engine is started anew."""
    before = victim.tritons()[0].pid
    standin.wish(fail={"text": text, "after": after, "times": None})
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        for _ in range(ERRORS):
            answer = await ask(client, max_tokens=20)
            if after:
                assert answer.status_code == 200
                assert "event: error" in answer.text
                said = answer.text.rpartition("event: error\ndata: ")[2].strip()
            else:
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                said = answer.text
            assert '"engine_unavailable"' in said
            assert not OURS_ALONE.search(said), said
        standin.wish()
        await started_anew(client, victim, before)
    log = victim.log.read_text()
    assert f"The engine failed {ERRORS} requests in a row." in log
    assert "Encountered an error in forwardAsync function: [TensorRT-LLM][ERROR] " in log


async def test_an_error_that_passes_ends_nothing(victim: Service, standin: Standin) -> None:
    """However many requests it takes along: they failed together."""
    before = victim.tritons()[0].pid
    standin.wish(fail={"text": "out_of_memory", "after": 3, "times": 1}, pause_s=0.05)
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        answers = await asyncio.gather(*(ask(client, max_tokens=30) for _ in range(2 * ERRORS)))
        assert sum("event: error" in answer.text or answer.status_code == 503 for answer in answers) > 1
        standin.wish()
        await asyncio.sleep(2)
        assert (await ask(client)).status_code == 200
    assert [t.pid for t in victim.tritons()] == [before]


async def test_a_lost_gpu_ends_the_engine_at_once(victim: Service, standin: Standin) -> None:
    before = victim.tritons()[0].pid
    standin.wish(fail={"text": "illegal_memory_access", "times": 1})
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        answer = await ask(client)
        assert answer.status_code == 503
        assert answer.json()["error"] == FAILED
        standin.wish()
        await started_anew(client, victim, before)


async def test_the_reason_of_a_crash_is_for_everybody_to_read(victim: Service, standin: Standin) -> None:
    before = victim.tritons()[0].pid
    standin.wish(abort=True)
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        answer = await ask(client)
        assert answer.status_code == 503
        assert not OURS_ALONE.search(answer.text), answer.text
        standin.wish()
        await started_anew(client, victim, before)


async def test_what_a_client_did_wrong_is_told_and_counts_for_nothing(
    victim: Service, standin: Standin, engine: str
) -> None:
    """The engine is built for shorter prompts than the model's context, or a client has got past our own check."""
    before = victim.tritons()[0].pid
    too_long, told = TOO_LONG["pytorch" if engine == "pytorch" else "tensorrt"]
    standin.wish(fail={"text": too_long, "at": "fetch", "times": None})
    async with httpx.AsyncClient(base_url=victim.url, timeout=60) as client:
        for _ in range(2 * ERRORS):
            answer = await ask(client)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == told
        standin.wish()
        await asyncio.sleep(1.5)
        assert (await ask(client)).status_code == 200
    assert [t.pid for t in victim.tritons()] == [before]


# Not pytorch: our own model answers a `stop`, and keeps nothing of it (tests/triton/test_stub_end.py).
@pytest.mark.engines(*ENGINES)
def test_a_stop_does_not_wait_for_what_the_backend_keeps(home: Path, standin: Standin, tmp_path: Path) -> None:
    """It keeps something of each refused request, and Triton would wait for that until its exit timeout of 199 s."""
    standin.wish()
    with serve(home, tmp_path / "log.txt", "--arg", "stop_timeout_s=200") as service:
        service.wait_ready()
        inputs: dict[str, Any] = {
            "input_ids": np.array([[5]], np.int32),
            "input_lengths": np.array([[1]], np.int32),
            "request_output_len": np.array([[1]], np.int32),
            "stop": np.array([[True]]),
        }
        assert infer(service.grpc_address(), "tensorrt_llm", inputs, ["output_ids", "sequence_length"]).error is None
        assert service.stop() == 0, "and within STOP_LIMIT_S"
