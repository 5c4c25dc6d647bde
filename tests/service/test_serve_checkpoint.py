"""`scripts/serve --checkpoint`: a model that is packed on the way, once, with the defaults of a real one."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.manifest import Manifest
from tests.support.checkpoints import write_checkpoint
from tests.support.launcher import LOGS, bound
from tests.support.limits import LIMIT_S
from tests.support.processes import left_over
from tests.support.refusal import refused
from tests.support.serving import ROOT, Service, environment, free_port

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny", hidden=128, inner=256, config={"rope_scaling": LLAMA3}, endless=True)


@contextmanager
def scripts_serve(home: Path, *options: str) -> Iterator[Service]:
    """The script itself, started in the folder of `home`, until Ctrl-C ends it and all that it started."""
    port, log, folder = free_port(), home.with_name("log.txt"), home.parent
    argv = bound([str(ROOT / "scripts/serve"), *options, "--host", "127.0.0.1", "--port", str(port)])
    LOGS.append(log)
    with log.open("ab") as output:
        process = psutil.Popen(
            argv, cwd=folder, env=environment(home, TEST_MARKER=str(folder)), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        service.wait_ready()
        yield service
        # As a terminal sends it.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
        assert left_over(str(folder)) == []
    finally:
        for each in left_over(str(folder)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(LIMIT_S)


def test_a_checkpoint_is_packed_once_and_served(checkpoint: Path, tmp_path: Path) -> None:
    """By scripts/serve, two times; test_lifecycle.py has it serve the demo.

    Where .venv has what the tests need, the script installs nothing: tests/unit/test_checkout.py.
    It is packed twice where somebody edits bento_trtllm meanwhile.
    """
    home = tmp_path / "bentoml"
    packs = list[tuple[Path, int]]()
    prompts = [[5, 6, 7], [9, 8] * 150]
    body = {
        "model": "tiny",
        "prompt": prompts,
        "max_tokens": 20,
        "temperature": 0,
        "logprobs": 1,
        "return_token_ids": True,
    }
    for options in ([], ["--precision", "int8"]):
        with scripts_serve(home, "--checkpoint", checkpoint.name, *options) as service:
            answer = httpx.post(f"{service.url}/v1/completions", json=body, timeout=LIMIT_S).json()
            card = httpx.get(f"{service.url}/v1/models/tiny", timeout=LIMIT_S).json()
        assert answer["usage"]["completion_tokens"] == 40
        (manifest,) = home.glob("models/*/*/manifest.json")
        packs.append((manifest, manifest.stat().st_mtime_ns))
    assert packs[0] == packs[1]
    assert manifest.parent.parent.name == "tiny" and Manifest.read(manifest.parent).precision == "int8"
    proof = Manifest.read(manifest.parent).proof
    assert proof and card["proof"] == proof.model_dump()
    # Not exactly: the cache has 8 bits, and products as many as this CPU is fastest in.
    reference = Reference.load(checkpoint, "int8")
    for choice, prompt in zip(answer["choices"], prompts, strict=True):
        ids, scores = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        rows = reference.log_probs([*prompt, *ids[:-1]], start=len(prompt) - 1)
        assert len(ids) == len(scores) == 20
        # 0.07 with AMX, and 0.17 in the types of CPUs without it.
        assert np.abs(rows[np.arange(20), ids] - scores).max() < 0.5
        assert abs(scores[0] - rows[0].max()) < 0.25


def test_what_cannot_be_packed_is_not_served(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts/serve"), "--checkpoint"]
    (home := tmp_path / "bentoml").mkdir()
    subprocess.run([ROOT / "scripts/venv", "cpu"], env=environment(home), check=True, capture_output=True, timeout=300)
    assert "no such directory: ./nowhere" in refused([*command, "./nowhere"], home)
    assert "--model names a packed model: leave it out" in refused([*command, "a", "--model", "b"], home)
