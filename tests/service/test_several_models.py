"""Two models in one service: each answers for itself, and what happens to one does not happen to the other."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.engines.openvino.reference import Reference
from tests.support import launcher
from tests.support.asking import timeout
from tests.support.checkpoints import write_checkpoint
from tests.support.demo import ANSWERS, PROMPT
from tests.support.processes import left_over
from tests.support.serving import MACHINES, Service, serve

pytestmark = [pytest.mark.slow, pytest.mark.engines("pytorch")]
ADMIN = {"authorization": "Bearer admin-key"}
TOKENS = list(range(40, 60))


def triton_of(service: Service, name: str) -> psutil.Process:
    """The tritonserver whose repository has the engine of that pack."""
    for triton in service.tritons():
        (repository,) = (a.partition("=")[2] for a in triton.cmdline() if a.startswith("--model-repository="))
        if f"/{name}/" in (Path(repository) / "tensorrt_llm/config.pbtxt").read_text():
            return triton
    raise AssertionError(f"no tritonserver has {name}")


async def complete(client: httpx.AsyncClient) -> tuple[list[int], str]:
    """The tokens with which the tiny model goes on, and what computed them."""
    body = {"model": "tiny-llama", "prompt": TOKENS, "max_tokens": 3, "temperature": 0, "return_token_ids": True}
    response = await client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["token_ids"], response.json()["system_fingerprint"]


async def generated(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await client.post("/generate", json={"prompt": PROMPT, "max_tokens": 1024, **fields})


async def restarts(client: httpx.AsyncClient) -> dict[str, float]:
    """How often each model's engine was started again, by the metrics."""
    families = list(text_string_to_metric_families((await client.get("/metrics", headers=ADMIN)).text))
    assert len({(s.name, *sorted(s.labels.items())) for f in families for s in f.samples}) == sum(
        len(family.samples) for family in families
    )
    (found,) = (family for family in families if family.name == "trtllm_engine_restarts")
    return {sample.labels["gen_ai_request_model"]: sample.value for sample in found.samples}


async def test_each_model_has_a_triton_of_its_own(home: Path, tmp_path: Path) -> None:
    """Of two engines: PyTorch's, packed for this home, and OpenVINO's."""
    checkpoint = write_checkpoint(tmp_path / "tiny", endless=True)
    launcher.pack(home, "tiny-llama:test", checkpoint)
    options = ("--arg", "models=demo-llama:test,tiny-llama", "--arg", "workers=2")
    log, marker = tmp_path / "log.txt", str(tmp_path)
    with serve(home, log, *options, TRTLLM_ADMIN_KEY="admin-key", TEST_MARKER=marker) as service:
        service.wait_ready()
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            listed = (await client.get("/v1/models")).json()["data"]
            assert [each["id"] for each in listed] == ["demo-llama", "tiny-llama"]
            assert (await client.get("/v1/models/tiny-llama")).json() == listed[1]
            # Both at once, by their names and by none.
            expected, llama = list(TOKENS), Reference.load(checkpoint)
            for _ in range(3):
                expected.append(int(llama.logits(expected)[-1].argmax()))
            tiny, *answers = await asyncio.gather(
                complete(client), generated(client, model="demo-llama"), generated(client)
            )
            assert tiny == (expected[len(TOKENS) :], "openvino-f32")
            assert [answer.text for answer in answers] == [ANSWERS[PROMPT]] * 2

            before = await restarts(client)
            MACHINES[home].wish(pause_s=0.05)
            try:
                long = asyncio.create_task(generated(client))
                async with timeout(60):
                    while (await _engines(client))["demo-llama"]["running"] < 1:
                        await asyncio.sleep(0.02)
                    triton_of(service, "tiny-llama").kill()
                    while (await restarts(client))["tiny-llama"] == before["tiny-llama"]:
                        await asyncio.sleep(0.02)
                    while (answer := await generated(client, model="tiny-llama")).status_code != 200:
                        assert (answer.status_code, "The engine of tiny-llama " in answer.text) == (503, True)
                        await asyncio.sleep(0.02)
            finally:
                MACHINES[home].wish()
            assert await complete(client) == tiny
            # What was asked before is answered whole, by a Triton that has not noticed.
            assert (await long).text == ANSWERS[PROMPT]
            demo = (await _engines(client))["demo-llama"]["engine"]
            assert demo["restarts"] == (await restarts(client))["demo-llama"] == before["demo-llama"]
            ready = [line for line in log.read_text().splitlines() if "Triton is ready after" in line]
            assert {line.rpartition(" (")[2] for line in ready} == {"model=demo-llama)", "model=tiny-llama)"}
        assert service.stop() == 0
    assert left_over(marker) == []


async def _engines(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    models = (await client.get("/admin.json", headers=ADMIN)).json()["models"]
    return {each["model"].partition(":")[0]: each for each in models}
