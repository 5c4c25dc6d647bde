"""pack_model.py tensorrt as a user runs it, in a stand-in for NVIDIA's container (tests/support/fakes)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checks import check
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.engines.tensorrt import gpus as installed_gpus
from bento_trtllm.engines.tensorrt import guided
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.engines.tensorrt.provenance import Provenance
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest
from pack_model import main
from tests.support.adapters import write_adapter
from tests.support.checkpoints import write_checkpoint
from tests.support.fakes import pynvml
from tests.support.fakes.container import Container

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tiny", hidden=128, inner=256)


class Desk:
    """Where one user packs, inside a container or outside; commands run in this process, which is quicker."""

    def __init__(
        self,
        path: Path,
        container: Container | None,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.home = path / "bentoml"
        self.container = container
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.environment = {"BENTOML_HOME": str(self.home), "BENTOML_DO_NOT_TRACK": "True"}
        if container:
            self.environment |= container.environment

    def pack(self, *arguments: str | Path, engine: str = "tensorrt", **environment: str) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of pack_model.py."""
        with self.monkeypatch.context() as patch:
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            patch.setitem(sys.modules, "pynvml", pynvml)
            patch.setattr(signal, "signal", lambda number, handler: None)
            self.capfd.readouterr()
            code = main([engine, "--checkpoint", *map(str, arguments)])
        out, err = self.capfd.readouterr()
        return code, out, err

    def packed(self, *arguments: str | Path) -> Path:
        code, out, err = self.pack(*arguments)
        assert code == 0, err
        name, version = out.split()[1].split(":")
        return self.home / "models" / name / version

    def refused(self, *arguments: str | Path, engine: str = "tensorrt") -> str:
        code, out, err = self.pack(*arguments, engine=engine)
        assert (code, out) == (2, ""), err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert not list(self.home.glob("models/*/*"))
        return err


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, Container(tmp_path / "container"), monkeypatch, capfd)


def calls(desk: Desk) -> list[dict[str, Any]]:
    assert desk.container
    return desk.container.calls()


def test_the_merged_weights_are_converted(desk: Desk, tiny: Path, tmp_path: Path) -> None:
    """An adapter's engine is another than the checkpoint's, and than another adapter's."""
    checkpoint = find_checkpoint(str(tiny))
    for seed in (1, 2, 1):
        adapter = tmp_path / f"adapter-{seed}"
        if not adapter.exists():
            write_adapter(adapter, checkpoint, ["q_proj"], r=2, lora_alpha=2, seed=seed)
        packed = desk.packed(tiny, "--merge-lora", adapter, "--tag", "tiny:1", "--force")
        assert Manifest.read(packed).options == {"merge-lora": str(adapter)}
        assert Manifest.read(packed).checksum != checkpoint.checksum
    converted = [call["dir"] for call in calls(desk) if call["call"] == "convert"]
    assert len(converted) == 2 and all(Path(path).name == "changed" for path in converted)
    assert not any(Path(path).exists() for path in converted)


def test_packs(desk: Desk, tiny: Path) -> None:
    packed = desk.packed(tiny, "--tag", "tiny:1", "--preset", "latency")
    convert, build = calls(desk)
    assert convert == {"call": "convert", "dir": str(tiny), "dtype": "bfloat16", "rank": 0, "quant": [None, None]}
    assert (build["max_batch_size"], build["max_num_tokens"], build["max_seq_len"]) == ("16", "2048", "2048")
    assert sorted(path.name for path in (packed / "engine").iterdir()) == ["config.json", "rank0.engine", guided.FILE]
    info = json.loads((packed / "engine" / guided.FILE).read_text())
    assert info["stop_token_ids"] == Manifest.read(packed).eos_ids
    assert info.keys() == {"encoded_vocab", "tokenizer_str", "stop_token_ids"}
    vocabulary = json.loads((tiny / "tokenizer.json").read_text())["model"]["vocab"]
    assert all(info["encoded_vocab"][i] == token for token, i in vocabulary.items())
    assert json.loads(info["tokenizer_str"])["model"]["vocab"] == vocabulary
    manifest = Manifest.read(packed)
    assert (manifest.engine, manifest.precision, manifest.dialect) == ("tensorrt", "bfloat16", "1.x")
    assert manifest.versions == {"tensorrt_llm": "1.2.1"} and manifest.context_length == 2048
    built = Provenance.model_validate(manifest.build)
    assert (built.gpu, built.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert (built.release, built.tensorrt_llm, built.tp_size, built.pp_size) == ("26.07", "1.2.1", 1, 1)
    metadata = yaml.safe_load((packed / "model.yaml").read_text())["metadata"]
    assert metadata["tensorrt"] == built.model_dump()
    assert len(metadata["checksum"]) == 64


def test_quantises_and_shards(desk: Desk, tiny: Path, tmp_path: Path) -> None:
    desk.environment["FAKE_GPUS"] = "L40S:48:8.9,L40S:48:8.9,L40S:48:8.9"
    packed = desk.packed(tiny, "--tp", "2", "--quantization", "fp8", "--calibration-samples", "32")
    quantize, build = calls(desk)
    assert quantize == {
        "call": "quantize", "third": ["FP8", "FP8"], "dtype": "bfloat16", "calib_batches": 32,
        "calib_dataset": "cnn_dailymail", "device": "cuda",
    }  # fmt: skip
    assert build["workers"] == "2"
    assert {path.name for path in (packed / "engine").iterdir()} == {
        *("config.json", "rank0.engine", "rank1.engine", guided.FILE)
    }
    assert make_runtime(Manifest.read(packed)).ranks == 2


def test_the_tutorials_release(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, Container(tmp_path / "container", "0.10.0"), monkeypatch, capfd)
    packed = desk.packed(tiny, "--release", "24.06", "--tag", "old:1")
    convert, build = calls(desk)
    assert convert["quant"] == [None, None] and "max_seq_len" not in build
    assert Manifest.read(packed).dialect == "0.10.0"
    desk.packed(tiny, "--release", "24.06", "--tag", "old:2", "--quantization", "int4_awq")
    quantize, _ = calls(desk)
    assert quantize == {
        "call": "quantize", "third": ["W4A16_AWQ", None], "dtype": "bfloat16", "calib_batches": 32,
        "calib_dataset": "cnn_dailymail",
    }  # fmt: skip
    # QuantAlgo.FP8 for the KV cache would become an INT8 cache there, without a word.
    desk.packed(
        tiny, "--release", "24.06", "--tag", "old:3", "--quantization", "fp8", "--calibration-dataset", "pileval"
    )
    quantize, _ = calls(desk)
    assert quantize == {
        "call": "quantize", "third": ["FP8", "fp8"], "dtype": "bfloat16", "calib_batches": 512,
        "calib_dataset": "pileval",
    }  # fmt: skip


def test_the_timing_cache_stays_in_the_workspace(
    desk: Desk, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    workspace = desk.home / "tensorrt"
    packed = desk.packed(tiny, "--tag", "tiny:1")
    (kept,) = workspace.glob("*.cache")
    assert kept.read_bytes() == b"measured" and not list(elsewhere.iterdir())
    assert not list((packed / "engine").glob("*.cache"))
    _, build = calls(desk)
    assert build["input_timing_cache"] == str(kept) and build["output_timing_cache"] != str(kept)
    # The next build on the same kind of GPU reads it, one on another does not, and one that fails changes nothing.
    desk.packed(tiny, "--tag", "tiny:2", "--max-batch-size", "8")
    (build,) = calls(desk)
    assert build["input_timing_cache"] == str(kept)
    assert desk.pack(tiny, "--tag", "tiny:3", "--max-batch-size", "9", FAKE_BUILD="fail")[0] == 2
    assert list(workspace.glob("*.cache")) == [kept]
    desk.environment["FAKE_GPUS"] = "NVIDIA H200:141:9.0"
    desk.packed(tiny, "--tag", "tiny:4")
    (build,) = calls(desk)
    assert build["input_timing_cache"] != str(kept) and len(list(workspace.glob("*.cache"))) == 2


def test_another_text_is_another_calibration(desk: Desk, tiny: Path, tmp_path: Path) -> None:
    (texts := tmp_path / "texts").mkdir()
    (texts / "train.jsonl").write_text('{"text": "Once upon a time"}\n')
    arguments = ("--quantization", "fp8", "--calibration-dataset", texts)
    desk.packed(tiny, "--tag", "tiny:1", *arguments)
    quantize, _ = calls(desk)
    assert quantize["calib_dataset"] == str(texts)
    desk.packed(tiny, "--tag", "tiny:2", *arguments)
    assert calls(desk) == []
    (texts / "train.jsonl").write_text('{"text": "There was another one"}\n')
    desk.packed(tiny, "--tag", "tiny:3", *arguments)
    assert [call["call"] for call in calls(desk)] == ["quantize", "build"]


def test_nvfp4(desk: Desk, tiny: Path) -> None:
    desk.environment["FAKE_GPUS"] = "NVIDIA B200:180:10.0"
    packed = desk.packed(tiny, "--quantization", "nvfp4", "--calibration-dataset", "pileval")
    quantize, _ = calls(desk)
    assert (quantize["third"], quantize["calib_dataset"]) == (["NVFP4", "FP8"], "pileval")
    manifest = Manifest.read(packed)
    built = Provenance.model_validate(manifest.build)
    assert (manifest.precision, built.quantization, built.kv_cache_dtype) == (*("nvfp4", "nvfp4", "fp8"),)


def test_refused_before_anything_is_paid_for(desk: Desk, tiny: Path) -> None:
    for arguments, reason in (
        (("--quantization", "int4_awq", "--kv-cache-dtype", "fp8"), "does not go with --quantization int4_awq"),
        (("--quantization", "fp8", "--calibration-dataset", "wikitext"), "does not quantise with"),
        (("--quantization", "nvfp4"), "nvfp4 runs on Blackwell"),
        (("--calibration-samples", "32"), "goes with a --quantization"),
    ):
        assert reason in desk.refused(tiny, *arguments)
    (tiny / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert "is quantised already (FP8, says hf_quant_config.json)" in desk.refused(tiny)
    assert calls(desk) == []


def test_the_scheduler_of_a_packed_engine_is_checked_at_start(desk: Desk, tiny: Path) -> None:
    """With what it was packed with, and what is set now: both together make the fault."""
    throughput = desk.packed(tiny, "--tag", "tiny:1", "--preset", "throughput")
    latency = desk.packed(tiny, "--tag", "tiny:2", "--preset", "latency")
    check([throughput], Settings())
    check([latency], Settings(enable_chunked_context=False))
    check([latency], Settings(batch_scheduler_policy="max_utilization"))
    for packed, settings in (
        (throughput, Settings(enable_chunked_context=False)),
        (latency, Settings(enable_chunked_context=False, batch_scheduler_policy="max_utilization")),
    ):
        with pytest.raises(EngineError, match="max_utilization needs enable_chunked_context"):
            check([packed], settings)
    check([throughput], Settings(enable_chunked_context=False, batch_scheduler_policy="guaranteed_no_evict"))


def test_what_is_finished_is_not_built_again(desk: Desk, tiny: Path) -> None:
    first = desk.packed(tiny, "--tag", "tiny:1")
    assert [call["call"] for call in calls(desk)] == ["convert", "build"]
    second = desk.packed(tiny, "--tag", "tiny:2")
    assert calls(desk) == []
    # Linked: the second takes no room.
    assert (first / "engine" / "rank0.engine").samefile(second / "engine" / "rank0.engine")
    desk.packed(tiny, "--tag", "tiny:3", "--max-batch-size", "8")
    assert [call["call"] for call in calls(desk)] == ["build"]
    desk.packed(tiny, "--tag", "tiny:4", "--dtype", "float16")
    assert [call["call"] for call in calls(desk)] == ["convert", "build"]
    desk.environment["FAKE_GPUS"] = "NVIDIA H200:141:9.0"
    desk.packed(tiny, "--tag", "tiny:5")
    assert [call["call"] for call in calls(desk)] == ["build"]
    logs = sorted(path.name for path in (desk.home / "tensorrt").glob("*.log"))
    assert len(logs) == 2 + 4


def test_a_failed_build_says_why_and_goes_on_where_it_was(desk: Desk, tiny: Path) -> None:
    code, out, err = desk.pack(tiny, "--tag", "tiny:1", FAKE_BUILD="fail")
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: trtllm-build ended with code 3 ([TensorRT-LLM] [E] CUDA out of memory.")
    log = Path(last.rpartition(" ")[2])
    assert "a line of the build" in log.read_text()
    assert not list(desk.home.glob("models/*/*")) and not list(desk.home.glob("tensorrt/*.draft"))
    assert [call["call"] for call in calls(desk)] == ["convert"]
    desk.packed(tiny, "--tag", "tiny:1")
    assert [call["call"] for call in calls(desk)] == ["build"]


def test_an_interrupted_build_leaves_nothing_running(desk: Desk, tiny: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "pack_model.py"), "tensorrt", "--checkpoint", str(tiny)],
        env={**os.environ, **desk.environment, "FAKE_BUILD": "hang"},
        stderr=subprocess.DEVNULL,
    )
    assert desk.container
    deadline = time.monotonic() + 60
    while "build" not in (desk.container.calls_file.read_text() if desk.container.calls_file.exists() else ""):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(desk.container.folder).encode() in line for line in running)
    assert not list(desk.home.glob("tensorrt/*.draft")) and not list(desk.home.glob("tmp/*"))


def test_dry_run_needs_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, None, monkeypatch, capfd)
    arguments = ("--dry-run", "--tp", "2", "--pp", "2", "--gpu", "l40s", "--release", "25.09")
    code, out, err = desk.pack(tiny, *arguments)
    assert (code, err) == (0, "")
    plan = json.loads(out)
    settings = plan["engine"]["settings"]
    assert settings["image"].endswith(":25.09-trtllm-python-py3")
    assert settings["build"][0] == "trtllm-build" and settings["convert"]["pp_size"] == 2
    assert settings["memory"]["gpu"] == "L40S" and settings["memory"]["kv_cache_tokens"] > 0
    assert set(plan["repository"]) == {"preprocessing", "tensorrt_llm", "postprocessing", "ensemble"}
    assert 'backend: "tensorrtllm"' in plan["repository"]["tensorrt_llm"]
    assert len(plan["launch"]) == 4 and plan["launch"][0][0] == "mpirun"
    assert not desk.home.exists()


def test_wrong_use(desk: Desk, tiny: Path, tmp_path: Path) -> None:
    assert "choose --tp from 1, 2, 4" in desk.refused(tiny, "--dry-run", "--tp", "3")
    assert "there is no release 25.08 here: choose one of 24.06 (0.10.0)" in desk.refused(tiny, "--release", "25.08")
    other = desk.refused(tiny, "--release", "25.11")
    assert "release 25.11 has TensorRT-LLM 1.0.3 and 1.2.1 is installed here" in other
    assert "scripts/in_container --release 25.11 python3 pack_model.py" in other
    assert "--gpu is for --dry-run" in desk.refused(tiny, "--gpu", "L4")
    assert "takes 2 GPUs and 1 can be used here" in desk.refused(tiny, "--tp", "2")
    assert "--precision is for openvino" in desk.refused(tiny, "--precision", "f16")
    assert calls(desk) == []
    bare = Desk(tmp_path / "bare", None, desk.monkeypatch, desk.capfd).refused(tiny)
    assert "tensorrt_llm is not installed here: run inside NVIDIA's container, with scripts/in_container" in bare


def test_options_of_one_engine_are_not_the_others(desk: Desk, tiny: Path) -> None:
    for option, value in (("--tp", "2"), ("--max-batch-size", "4"), ("--gpu", "L4")):
        assert f"{option} is for tensorrt: leave it out with openvino" in desk.refused(
            tiny, option, value, engine="openvino"
        )


@pytest.mark.parametrize(
    ("version", "gpus", "message"),
    [
        ("1.2.1", "NVIDIA H100 80GB HBM3:80:9.0", ""),
        ("1.2.1", "NVIDIA H100 PCIe:80:9.0", ""),
        (
            "1.2.1",
            "NVIDIA A100:80:8.0",
            "built for NVIDIA H100 80GB HBM3 (compute capability 9.0) and this is a NVIDIA",
        ),
        ("1.0.3", "NVIDIA H100 80GB HBM3:80:9.0", "built by TensorRT-LLM 1.2.1 and 1.0.3 is installed here"),
        ("1.2.1", "", "takes 1 GPUs and 0 can be used here"),
        (
            None,
            "",
            "needs TensorRT-LLM 1.2.1, which is not installed here: serve it in nvcr.io/nvidia/tritonserver:26.07",
        ),
    ],
)
def test_a_service_compares_the_machine(
    version: str | None,
    gpus: str,
    message: str,
    desk: Desk,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = Manifest.read(desk.packed(tiny))
    monkeypatch.setattr(installed_gpus, "installed", lambda: fake_gpus(gpus))
    monkeypatch.setattr(TensorRTPython, "version", lambda self: version)
    if not message:
        make_runtime(manifest).check_machine()
        return
    with pytest.raises(EngineError) as caught:
        make_runtime(manifest).check_machine()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def fake_gpus(text: str) -> list[GPU]:
    found = [gpu.split(":") for gpu in text.split(",") if gpu]
    return [GPU(name, int(gib) << 30, (int(sm[0]), int(sm[2]))) for name, gib, sm in found]
