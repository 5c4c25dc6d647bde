"""Two models in one service: each answers for itself, and what happens to one does not happen to the other."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asking import timeout
from tests.support.demo import ANSWERS, PROMPT
from tests.support.processes import left_over
from tests.support.serving import Service, serve

pytestmark = [pytest.mark.slow, pytest.mark.engines("openvino")]
ADMIN = {"authorization": "Bearer admin-key"}
TOKENS = 150


def triton_of(service: Service, name: str) -> psutil.Process:
    """The tritonserver whose repository has the engine of that pack."""
    for triton in service.tritons():
        (repository,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--model-repository="))
        if f"/{name}/" in (Path(repository) / "tensorrt_llm/config.pbtxt").read_text():
            return triton
    raise AssertionError(f"no tritonserver has {name}")


async def complete(client: httpx.AsyncClient, model: str, **fields: Any) -> str:
    """The text that a model goes on with after PROMPT."""
    response = await client.post("/v1/completions", json={"model": model, "prompt": PROMPT, **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


async def generated(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 24, **fields})


async def restarts(client: httpx.AsyncClient) -> dict[str, float]:
    """How often each model's engine was started again, by the metrics."""
    families = list(text_string_to_metric_families((await client.get("/metrics", headers=ADMIN)).text))
    assert len({(s.name, *sorted(s.labels.items())) for f in families for s in f.samples}) == sum(
        len(family.samples) for family in families
    )
    (found,) = (family for family in families if family.name == "trtllm_engine_restarts")
    return {sample.labels["gen_ai_request_model"]: sample.value for sample in found.samples}


async def test_each_model_has_a_triton_of_its_own(home: Path, slow_model: str, tmp_path: Path) -> None:
    options = ("--arg", f"models=demo-llama:test,{slow_model}", "--arg", "workers=2")
    log, marker = tmp_path / "log.txt", str(tmp_path)
    with serve(home, log, *options, TRTLLM_ADMIN_KEY="admin-key", TEST_MARKER=marker) as service:
        service.wait_ready()
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            listed = (await client.get("/v1/models")).json()["data"]
            assert [each["id"] for each in listed] == ["demo-llama", "slow-llama"]
            assert (await client.get("/v1/models/slow-llama")).json() == listed[1]
            # Both at once, by one name or the other, and by none.
            demo, slow, other, first = await asyncio.gather(
                complete(client, "demo-llama", max_tokens=8),
                complete(client, "slow-llama", max_tokens=8),
                generated(client, model="slow-llama"),
                generated(client),
            )
            assert first.text and ANSWERS[PROMPT].startswith(first.text)
            assert demo != slow and other.text != first.text

            before = await restarts(client)
            long = asyncio.create_task(complete(client, "slow-llama", max_tokens=TOKENS))
            victim = triton_of(service, "demo-llama")
            async with timeout(30):
                while (await _engines(client))["slow-llama"]["running"] < 1:
                    await asyncio.sleep(0.02)
                victim.kill()
                while (await restarts(client))["demo-llama"] == before["demo-llama"]:
                    await asyncio.sleep(0.02)
                while (answer := await generated(client)).status_code != 200:
                    assert (answer.status_code, "The engine of demo-llama " in answer.text) == (503, True)
                    await asyncio.sleep(0.02)
            assert (answer.text, await complete(client, "demo-llama", max_tokens=8)) == (first.text, demo)
            # What was asked before is answered whole, by a Triton that has not noticed.
            assert (await long).startswith(slow)
            after = {name: each["engine"]["restarts"] for name, each in (await _engines(client)).items()}
            assert after == await restarts(client)
            assert after["slow-llama"] == before["slow-llama"]
            ready = [line for line in log.read_text().splitlines() if "Triton is ready after" in line]
            assert {line.rpartition(" (")[2] for line in ready} == {"model=demo-llama)", "model=slow-llama)"}
        assert service.stop() == 0
    assert left_over(marker) == []


async def _engines(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    models = (await client.get("/admin.json", headers=ADMIN)).json()["models"]
    return {each["model"].partition(":")[0]: each for each in models}
