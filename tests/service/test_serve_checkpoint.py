"""`scripts/serve --checkpoint`: a model that is packed on the way, once, with the defaults of a real one."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from bento_trtllm.checkout.once import named, packed
from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.manifest import Manifest
from tests.support.checkpoints import write_checkpoint
from tests.support.refusal import refused
from tests.support.serving import ROOT, environment, serve

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny", hidden=128, inner=256, config={"rope_scaling": LLAMA3}, endless=True)


def test_a_checkpoint_is_packed_once_and_served(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bentoml"
    monkeypatch.setenv("BENTOML_HOME", str(home))
    tag = packed(str(checkpoint))
    model = home / "models" / tag.replace(":", "/")
    manifest = model.joinpath("manifest.json")
    before = manifest.stat().st_mtime_ns
    assert packed(str(checkpoint)) == tag and manifest.stat().st_mtime_ns == before
    assert Manifest.read(model).precision == "int8"
    prompts = [[5, 6, 7], [9, 8] * 150]
    with serve(home, tmp_path / "log.txt", "--arg", f"model={tag}") as service:
        service.wait_ready()
        body = {"model": "tiny", "prompt": prompts, "max_tokens": 20, "temperature": 0, "logprobs": 1}
        answer = httpx.post(f"{service.url}/v1/completions", json=body, timeout=60).json()
    assert answer["usage"]["completion_tokens"] == 40
    # Not exactly: the cache has 8 bits, and products as many as this CPU is fastest in.
    reference = Reference.load(checkpoint, "int8")
    for choice, prompt in zip(answer["choices"], prompts, strict=True):
        likeliest = reference.log_probs(prompt, start=len(prompt) - 1).max()
        assert abs(choice["logprobs"]["token_logprobs"][0] - likeliest) < 0.25


def test_another_precision_or_changed_file_is_another_version(checkpoint: Path) -> None:
    tag, options = named(str(checkpoint))
    assert tag.startswith("tiny:") and options == ["--checkpoint", str(checkpoint)]
    other, options = named(str(checkpoint), "int4")
    assert other != tag and options[2:] == ["--precision", "int4"]
    assert named(str(checkpoint))[0] == tag
    os.utime(checkpoint / "model.safetensors")
    assert named(str(checkpoint))[0] != tag


def test_what_cannot_be_packed_is_not_served(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts/serve"), "--checkpoint"]
    (home := tmp_path / "bentoml").mkdir()
    subprocess.run([ROOT / "scripts/venv", "cpu"], env=environment(home), check=True, capture_output=True, timeout=300)
    assert "no such directory: ./nowhere" in refused([*command, "./nowhere"], home)
    assert "--model names a packed model: leave it out" in refused([*command, "a", "--model", "b"], home)
