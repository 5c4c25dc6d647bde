"""What cannot be served ends `bentoml serve` with one sentence and exit code 2, before anything listens.

And what is damaged or replaced under a service that runs is never served.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from bento_trtllm.manifest import Manifest
from tests.support.asking import read_events, stream_events
from tests.support.checkpoints import write_checkpoint
from tests.support.demo import ANSWERS, PROMPT
from tests.support.processes import workers
from tests.support.refusal import END_LIMIT_S, refused, refused_serve
from tests.support.serving import ROOT, SSE, Service, environment, pack, serve
from tests.support.tiny import until

AGAIN = "; pack it again with python pack_model.py openvino --checkpoint "


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Path:
    """A BentoML home of one's own, with demo-llama:test."""
    shutil.copytree(home / "models" / "demo-llama", tmp_path / "bentoml" / "models" / "demo-llama")
    return tmp_path / "bentoml"


@pytest.fixture
def packed(store: Path) -> Path:
    return store / "models" / "demo-llama" / "test"


def cut(packed: Path) -> None:
    os.truncate(packed / "engine/openvino_model.bin", 1_000_000)


def exchange(packed: Path) -> None:
    """As copying does it: a file of its own takes the place of the one that a running engine may have mapped."""
    file = packed / "engine/openvino_model.bin"
    (other := file.with_suffix(".new")).write_bytes(bytes(file.stat().st_size))
    other.rename(file)


def older(packed: Path) -> None:
    data = json.loads((packed / "manifest.json").read_text()) | {"format": 1}
    (packed / "manifest.json").write_text(json.dumps(data))


def spoil(packed: Path) -> None:
    (packed / "repository/tensorrt_llm/config.pbtxt").write_text("backend: ")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda packed: (packed / "manifest.json").unlink(), "has no manifest.json: pack it again"),
        (lambda packed: (packed / "tokenizer/tokenizer.json").unlink(), "tokenizer/tokenizer.json is missing" + AGAIN),
        (spoil, "repository/tensorrt_llm/config.pbtxt has 9 bytes, and was packed with"),
        (cut, "engine/openvino_model.bin has 1,000,000 bytes, and was packed with "),
        (exchange, "engine/openvino_model.bin has other content than was packed" + AGAIN),
        (older, "was packed by an older version of pack_model.py (format 1, and this one reads 2)"),
    ],
    ids=["no manifest", "no tokenizer", "bad config.pbtxt", "cut engine", "exchanged engine", "older format"],
)
def test_a_damaged_pack(store: Path, packed: Path, damage: Callable[[Path], None], sentence: str) -> None:
    damage(packed)
    said = refused_serve(store, "model=demo-llama:test")
    assert said.startswith("error: the model demo-llama:test ") and sentence in said


def test_scripts_serve_says_the_same(store: Path, packed: Path) -> None:
    subprocess.run([ROOT / "scripts/venv", "cpu"], env=environment(store), check=True, capture_output=True, timeout=300)
    cut(packed)
    said = refused([str(ROOT / "scripts/serve"), "--model", "demo-llama:test"], store)
    assert "engine/openvino_model.bin has 1,000,000 bytes" in said


def test_a_model_that_is_not_in_the_store(store: Path) -> None:
    said = refused_serve(store, "model=none:1")
    assert "the model store has no model none:1: pack one with python pack_model.py openvino --checkpoint" in said
    assert "is not a model's tag: give a name or name:version" in refused_serve(store, "model=a b")
    assert "between; several models go in `models`" in refused_serve(store, "model=a,b:one")


def test_settings(store: Path) -> None:
    model = "model=demo-llama:test"
    assert "--arg workers=none cannot be used: " in refused_serve(store, model, "workers=none")
    assert "there is no setting worker (did you mean workers?)" in refused_serve(store, model, "worker=2")
    assert "TRTLLM_THREADS=-1 cannot be used: " in refused_serve(store, model, TRTLLM_THREADS="-1")
    other = refused_serve(store, model, TRTLLM_KV_CACHE_FREE_GPU_MEM_FRACTION="0.5")
    sentence = (
        "the setting kv_cache_free_gpu_mem_fraction is for the engine tensorrt and pytorch, and the packed model's"
    )
    assert f"{sentence} is open" in other
    keys = refused_serve(store, model, TRTLLM_API_KEYS_FILE="/nowhere")
    assert "the file of API keys, /nowhere, cannot be read: No such file or directory" in keys
    audit = refused_serve(store, model, "audit_log=/nowhere/audit.log")
    assert "the audit log, /nowhere/audit.log, cannot be written: No such file or directory" in audit


@pytest.mark.parametrize("port", [99999, -1])
def test_a_port_that_there_is_not(store: Path, port: int) -> None:
    said = refused_serve(store, "model=demo-llama:test", port=port)
    assert said == f"error: the service cannot listen at port {port}: give one from 1 to 65535\n"


EMPTY = ("TRTLLM_WORKERS", "TRTLLM_API_KEYS", "TRTLLM_KEYS_FILE", "TRTLLM_ADMIN_KEY", "TRTLLM_AUDIT_LOG", "HF_TOKEN")
EMPTY_OF_OTHERS = ("BENTOML_CONFIG_OPTIONS", "BENTOML_CONFIG_OVERRIDES", "TRITONSERVER")


def test_empty_variables_are_none_and_folders_may_have_any_name(home: Path, tmp_path: Path) -> None:
    """As compose sets them, for what is left open; and as people call folders."""
    folders = {name: tmp_path / f"Zoë's {name} 日本" for name in ("HOME", "TMPDIR", "BENTOML_HOME")}
    folders["BENTOML_HOME"].symlink_to(home)
    for name in ("HOME", "TMPDIR"):
        folders[name].mkdir()
    variables = {**dict.fromkeys((*EMPTY, *EMPTY_OF_OTHERS), ""), **{n: str(path) for n, path in folders.items()}}
    with serve(home, tmp_path / "log.txt", cwd=ROOT, **variables) as service:
        service.wait_ready()
        assert read_events(stream_events(service, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
        assert httpx.get(f"{service.url}/admin.json").status_code == 404
    assert not [*folders["TMPDIR"].rglob("triton-*")]


@pytest.fixture
def running(store: Path, tmp_path: Path) -> Iterator[Service]:
    delays = ("--arg", "restart_first_delay_s=0.1", "--arg", "restart_max_delay_s=1")
    with serve(store, tmp_path / "log.txt", *delays) as service:
        service.wait_ready()
        yield service


def why_not_ready(service: Service) -> str:
    try:
        response = httpx.get(f"{service.url}/readyz", timeout=60)
    except httpx.TransportError:
        return ""
    return response.text if response.status_code == 503 else ""


def test_an_engine_damaged_under_a_service_is_not_started_again(running: Service, packed: Path, tmp_path: Path) -> None:
    whole = shutil.copy(packed / "engine/openvino_model.bin", tmp_path / "whole.bin")
    exchange(packed)
    # What is loaded is not touched.
    assert read_events(stream_events(running, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
    running.tritons()[0].kill()
    until(lambda: "engine/openvino_model.bin has other content than was packed" in why_not_ready(running), 60)
    assert httpx.post(f"{running.url}/generate", json={}, timeout=60).status_code == 503
    assert running.tritons() == []
    shutil.copy(whole, packed / "engine/openvino_model.bin")
    running.wait_ready()
    assert read_events(stream_events(running, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]


def test_an_engine_packed_anew_under_a_service_is_not_its_engine(running: Service, store: Path, tmp_path: Path) -> None:
    """Another model of the same tag: its tokens would be read with the vocabulary of the first."""
    pack(store, "demo-llama:test", write_checkpoint(tmp_path / "other"), "--force")
    assert read_events(stream_events(running, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
    running.tritons()[0].kill()
    until(lambda: "demo-llama:test was packed again after the service was started" in why_not_ready(running), 60)
    assert running.tritons() == []


def test_a_worker_that_cannot_come_back_ends_the_service(
    store: Path, slow_model: str, home: Path, tmp_path: Path
) -> None:
    """Its port does not go on accepting; what the other worker was answering is answered, and the exit code is 2."""
    name, version = slow_model.split(":")
    packed = store / "models" / name / version
    shutil.copytree(home / "models" / name / version, packed)
    log = tmp_path / "log.txt"
    with serve(store, log, "--arg", f"model={slow_model}", "--arg", "workers=2") as service:
        service.wait_ready(2 * END_LIMIT_S)
        until(lambda: len(workers(service)) == 2, 60)
        (triton,) = service.tritons()
        owner = triton.parents()[1].pid
        (packed / "tokenizer/tokenizer.json").unlink()
        (other,) = workers(service) - {owner}
        body = {"prompt": PROMPT, "max_tokens": 100}
        psutil.Process(other).suspend()  # so that the owner takes the request
        with httpx.stream("POST", f"{service.url}/generate", json=body, headers=SSE, timeout=60) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["text"]
            psutil.Process(other).send_signal(signal.SIGKILL)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]" and json.loads(rest[-2].removeprefix("data: "))["finish_reason"] == "length"
        assert service.process.wait(END_LIMIT_S) == 2
    said = log.read_text()
    sentence = f"error: the model {slow_model} is damaged: tokenizer/tokenizer.json is missing; pack it again with"
    assert sum(line.startswith(sentence) for line in said.splitlines()) == 1
    assert "Traceback" not in said


def test_a_worker_that_finds_its_settings_gone_says_so_once(home: Path, tmp_path: Path) -> None:
    """It finds out when it imports the service, before it has any."""
    keys, log = tmp_path / "keys", tmp_path / "log.txt"
    keys.write_text("secret")
    with serve(home, log, "--arg", "workers=1", TRTLLM_API_KEYS_FILE=str(keys)) as service:
        service.wait_ready()
        keys.unlink()
        (worker,) = workers(service)
        psutil.Process(worker).kill()
        assert service.process.wait(END_LIMIT_S) == 2
    said = log.read_text()
    assert said.count(f"error: the file of API keys, {keys}, cannot be read: No such file or directory") == 1
    assert "Traceback" not in said


def test_a_name_without_a_version_stays_the_version_it_was(store: Path, home: Path, tmp_path: Path) -> None:
    """A worker that comes later serves what the others do, though `demo-llama` means another version by then."""
    (store / "models" / "demo-llama" / "latest").write_text("test")
    with serve(store, tmp_path / "log.txt", "--arg", "model=demo-llama", "--arg", "workers=1") as service:
        service.wait_ready()
        pack(store, "demo-llama:newer", write_checkpoint(tmp_path / "other"))
        assert Manifest.read(store / "models" / "demo-llama" / "newer").vocab_size == 512
        (worker,) = workers(service)
        psutil.Process(worker).kill()
        until(lambda: workers(service) not in ({worker}, set()), 60)
        service.wait_ready()
        assert read_events(stream_events(service, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
