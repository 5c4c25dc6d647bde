"""A TensorRT engine on a machine that cannot run it: the service says so, and stays."""

import os
from pathlib import Path

import httpx

from bento_trtllm.engines.tensorrt.releases import DEFAULT, RELEASES
from tests.support.checkpoints import write_checkpoint
from tests.support.fakes.container import Container
from tests.support.packing import pack_model
from tests.support.serving import DEMO, MACHINES, environment, pack, serve
from tests.support.standin.place import Standin
from tests.support.tiny import until

REASON = (
    f"the engine needs TensorRT-LLM {RELEASES[DEFAULT].tensorrt_llm}, which is not installed here: serve it in "
    f"{RELEASES[DEFAULT].image}, with scripts/in_container --release {DEFAULT} bentoml serve"
)


def test_an_engine_of_another_machine_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", hidden=128, inner=256)
    home, container = tmp_path / "bentoml", Container(tmp_path / "container")
    inside = environment(home) | container.environment
    pack_model("tensorrt", "--checkpoint", checkpoint, "--tag", "gpu:1", environment=inside).check()
    with serve(home, tmp_path / "log.txt", "--arg", "model=gpu:1", PATH=os.environ["PATH"]) as service:

        def refused() -> bool:
            try:
                answer = httpx.post(f"{service.url}/generate", json={"prompt": "Hello"}, timeout=60)
            except httpx.TransportError:
                return False
            return answer.status_code == 503 and REASON in answer.json()["error"]["message"]

        until(refused, 60)
        assert httpx.get(f"{service.url}/readyz").status_code == 503
        assert httpx.get(f"{service.url}/livez").status_code == 200
    log = (tmp_path / "log.txt").read_text()
    assert REASON in log and "Traceback" not in log


def test_without_chunked_context_a_prompt_fits_a_step(tmp_path: Path) -> None:
    """max_model_len says how long a prompt may be, and the service refuses a longer one before the engine does."""
    home = tmp_path / "bentoml"
    MACHINES[home] = Standin(tmp_path / "standin", "25.12")
    pack(home, "short-steps:1", DEMO, "--max-num-tokens", "64")
    options = ("--arg", "model=short-steps:1", "--arg", "enable_chunked_context=false")
    with serve(home, tmp_path / "log.txt", *options) as service:
        service.wait_ready()
        with httpx.Client(base_url=service.url, timeout=60) as client:
            (model,) = client.get("/v1/models").json()["data"]
            assert model["max_model_len"] == 65

            def ask(tokens: int) -> httpx.Response:
                body = {"model": "short-steps", "prompt": [1] * tokens, "max_tokens": 80, "ignore_eos": True}
                return client.post("/v1/completions", json=body)

            assert ask(64).json()["usage"]["completion_tokens"] == 80
            refused = ask(65)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "context_length_exceeded"
            assert "without chunked context the engine takes 64" in refused.json()["error"]["message"]
