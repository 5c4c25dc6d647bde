"""LoRA adapters by request, on the PyTorch engine: each is a model, and answers as its merged weights do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checkpoint.merge import merge, read_mergeable
from bento_trtllm.engines.openvino.reference import Reference
from tests.support.adapters import write_adapter
from tests.support.inference import ids, infer, one, request
from tests.support.llmapi.place import LLMAPI
from tests.support.serving import DEMO, MACHINES, Service, pack, serve
from tests.support.tiny import until

TAG = "demo-llama:lora"
TARGETS = {"loud": ["q_proj", "v_proj", "down_proj"], "quiet": ["o_proj"]}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name; each of another rank."""
    folder, checkpoint = tmp_path_factory.mktemp("adapters"), find_checkpoint(str(DEMO))
    return {
        name: write_adapter(folder / name, checkpoint, targets, r=rank, lora_alpha=9 * rank, seed=rank)
        for rank, (name, targets) in enumerate(TARGETS.items(), 3)
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> LLMAPI:
    return LLMAPI(tmp_path_factory.mktemp("llmapi"))


@pytest.fixture(scope="module")
def service(machine: LLMAPI, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home, log = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lora") / "log.txt"
    MACHINES[home] = machine
    pack(home, TAG, DEMO, *(word for name, path in adapters.items() for word in ("--lora", f"{name}={path}")))
    first = home / "first.jsonl"
    machine.wish(record=str(first))
    with serve(home, log, "--arg", f"model={TAG}") as service:
        service.wait_ready()
        machine.wish()
        # Each is read before anybody waits for it.
        started = [json.loads(line) for line in first.read_text().splitlines()]
        assert [each["adapter"] for each in started if "adapter" in each] == [None, *TARGETS]
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def test_each_adapter_is_a_model(client: httpx.Client) -> None:
    cards = client.get("/v1/models").json()["data"]
    assert [(card["id"], card.get("parent")) for card in cards] == [
        ("demo-llama", None), ("loud", "demo-llama"), ("quiet", "demo-llama"),
    ]  # fmt: skip
    assert client.get("/v1/models/loud").json() == cards[1]
    told = 'trtllm_lora_requests_info{max_lora="2",running_lora_adapters="loud,quiet",waiting_lora_adapters=""}'
    assert told in client.get("/metrics").text
    missing = client.post("/v1/completions", json={"model": "silent", "prompt": "Hi"})
    assert missing.status_code == 404
    assert "this server has `demo-llama`, `loud`, `quiet`" in missing.json()["error"]["message"]


ROUTES: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "/v1/completions": (
        {"prompt": "Heat and light", "max_tokens": 12, "temperature": 0},
        lambda body: body["choices"][0]["text"],
    ),
    "/v1/chat/completions": (
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "temperature": 0},
        lambda body: body["choices"][0]["message"]["content"],
    ),
    "/v1/responses": (
        {"input": "Hi", "max_output_tokens": 12, "temperature": 0},
        lambda body: body["output"][0]["content"][0]["text"],
    ),
    "/v1/messages": (
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "temperature": 0},
        lambda body: body["content"][0]["text"],
    ),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_request_chooses_by_model(client: httpx.Client, route: str) -> None:
    body, text = ROUTES[route]
    said = {}
    for model in ("demo-llama", *TARGETS):
        response = client.post(route, json={**body, "model": model})
        assert response.status_code == 200, response.text
        assert response.json()["model"] == model
        said[model] = text(response.json())
    assert len(set(said.values())) == 3, said


def test_generate_takes_a_model_too(client: httpx.Client) -> None:
    body = {"prompt": "Hi", "max_tokens": 12}
    said = [client.post("/generate", json={**body, **more}).text for more in ({}, {"model": "demo-llama"})]
    assert said[0] == said[1] != client.post("/generate", json={**body, "model": "loud"}).text
    refused = client.post("/generate", json={**body, "model": "silent"})
    assert refused.status_code == 404 and "`silent` does not exist" in refused.text


def test_answers_are_those_of_the_merged_weights(
    client: httpx.Client, service: Service, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """To one who sends tensors, and to one who names a model."""
    prompt, address, checkpoint = ids(), service.grpc_address(), find_checkpoint(str(DEMO))
    for number, (name, adapter) in enumerate(adapters.items(), 1):
        merged = merge(checkpoint, read_mergeable(str(adapter), checkpoint), tmp_path / name)
        llama, expected = Reference.load(merged.path), list(prompt)
        for _ in range(3):
            expected.append(int(llama.logits(expected)[-1].argmax()))
        asked = {**request(prompt, 3), "lora_task_id": one(number, np.uint64)}
        assert infer(address, "tensorrt_llm", asked, ["output_ids"]).tokens() == expected[len(prompt) :]
        body = {"model": name, "prompt": prompt, "max_tokens": 3, "temperature": 0, "return_token_ids": True}
        choice = client.post("/v1/completions", json=body).json()["choices"][0]
        assert choice["token_ids"] == expected[len(prompt) :]
    unknown = infer(address, "tensorrt_llm", {**asked, "lora_task_id": one(3, np.uint64)}, ["output_ids"])
    assert str(unknown.error) == "[invalid_request lora_task_id] lora_task_id is 3: the pack has 2 adapters."


def test_an_engine_that_is_killed_comes_back_with_its_adapters(
    client: httpx.Client, service: Service, machine: LLMAPI
) -> None:
    """Its streams end with an error, whichever model they asked for."""
    whole = {"model": "loud", "prompt": "Heat and light", "max_tokens": 5, "temperature": 0}
    before = client.post("/v1/completions", json=whole).json()["choices"][0]["text"]
    (triton,) = service.tritons()
    machine.wish(pause_s=0.05)
    body = {**whole, "max_tokens": 500, "ignore_eos": True, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        service.engine().kill()
        rest = "".join(lines)
    machine.wish()
    assert '"engine_unavailable"' in rest and "[DONE]" not in rest
    until(lambda: client.post("/v1/completions", json=whole).status_code == 200, 60)
    assert client.post("/v1/completions", json=whole).json()["choices"][0]["text"] == before
    assert service.tritons()[0].pid != triton.pid
