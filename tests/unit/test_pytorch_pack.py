"""pack_model.py pytorch: the checkpoint's own files in the pack, what is refused, and where it runs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checks import check
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_engine, make_runtime
from bento_trtllm.engines.pytorch import releases
from bento_trtllm.engines.pytorch.options import PyTorchOptions
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.errors import CheckpointError, EngineError, StoreError
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.process.installation import Installation
from bento_trtllm.triton.process.launch import Ports, Start
from bento_trtllm.triton.process.repository import engine_config, read_parameters
from bento_trtllm.triton_models.shared.adapters import Adapters
from pack_model import main
from tests.support.adapters import write_adapter
from tests.support.checkpoints import write_checkpoint, write_safetensors
from tests.support.fakes import pynvml

ENGINE_MODEL = "repository/tensorrt_llm/1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("BENTO_TRTLLM_PACK", "")  # which check() sets
    monkeypatch.setenv("FAKE_GPUS", "")
    return tmp_path / "bentoml"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tiny", hidden=128, inner=256)


def packed(home: Path, checkpoint: Path, *options: str, tag: str = "tiny:1") -> Path:
    assert main(["pytorch", "--checkpoint", str(checkpoint), "--tag", tag, *options]) == 0
    return home / "models" / Path(*tag.split(":"))


def quantise(path: Path, algorithm: str, dtype: str) -> None:
    """The matrices of its layers as ModelOpt writes them, scales aside."""
    shapes = find_checkpoint(str(path)).config.shapes()
    by = 2 if dtype == "U8" else 1
    tensors = {
        name: (dtype, np.zeros((*shape[:-1], shape[-1] // by), np.uint8))
        if "_proj" in name
        else ("F16", np.zeros(shape, np.float16))
        for name, shape in shapes.items()
    }
    write_safetensors(path / "model.safetensors", tensors)
    (path / prequantized.FILE).write_text(json.dumps({"quantization": {"quant_algo": algorithm}}))


def test_packs_anywhere(home: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU, TensorRT-LLM or a build: weights take no second place on the disk."""
    pack = packed(home, tiny, "--tp", "2", "--max-seq-len", "512")
    assert "serve it with: scripts/in_container --release 26.07 bentoml serve" in capsys.readouterr().out
    assert (pack / "engine/model.safetensors").samefile(tiny / "model.safetensors")
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= {p.name for p in (pack / "engine").iterdir()}
    assert {"model.py", "streams.py", "request.py", "outbox.py"} <= {
        path.name for path in (pack / ENGINE_MODEL).iterdir()
    }
    manifest = Manifest.open(pack, full=True)
    assert (manifest.engine, manifest.context_length, manifest.build) == ("pytorch", 512, None)
    parameters = read_parameters(engine_config(pack))
    assert parameters["gpt_model_path"] == "engine" and parameters["tensor_parallel_size"] == "2"
    # The end of a grammar is the tokenizer's own.
    assert int(parameters["guide_end_id"]) in manifest.eos_ids
    (pack / "engine/config.json").unlink()
    again = f"pytorch --checkpoint {tiny} --release 26.07 --tp-size 2 --max-seq-len 512 --tag tiny:1 --force"
    with pytest.raises(StoreError, match=again):
        Manifest.open(pack)


def test_a_cache_of_links_is_packed(home: Path, tiny: Path, tmp_path: Path) -> None:
    """Hugging Face's cache has a link for each file."""
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for file in tiny.iterdir():
        (cache / file.name).symlink_to(file)
    weights = packed(home, cache) / "engine/model.safetensors"
    assert not weights.is_symlink() and weights.samefile(tiny / "model.safetensors")


def test_settings(home: Path, tiny: Path) -> None:
    """What is not given stays as it was packed, TensorRT-LLM's own default mostly."""
    pack = packed(home, tiny)
    runtime, before = make_runtime(Manifest.read(pack)), read_parameters(engine_config(pack))
    assert runtime.parameters(Settings(), before) == before
    assert before["enable_kv_cache_reuse"] == "true" and before["kv_cache_free_gpu_mem_fraction"] == ""
    given = Settings(kv_cache_free_gpu_mem_fraction=0.5, enable_kv_cache_reuse=False, enable_chunked_context=False)
    after = runtime.parameters(given, before)
    assert {name: value for name, value in after.items() if before[name] != value} == {
        "kv_cache_free_gpu_mem_fraction": "0.5", "enable_kv_cache_reuse": "false", "enable_chunked_context": "false",
    }  # fmt: skip
    small = {**after, "max_num_tokens": "100"}
    assert runtime.longest_prompt(small) == 100 and runtime.longest_prompt(before) == 2047
    with pytest.raises(EngineError, match="threads is for the engine openvino"):
        check([pack], Settings(threads=1))


def test_one_triton_starts_all_gpus(home: Path, tiny: Path) -> None:
    """TensorRT-LLM spawns its workers by MPI, which an isolated process cannot."""
    runtime = make_runtime(Manifest.read(packed(home, tiny, "--tp", "2")))
    assert runtime.ranks == 1
    start = Start(
        Installation(Path("/t/bin/tritonserver"), "env"), Path("/r"), Path("/f"), Path("/f/cwd"), Ports(1, 2), "key",
        Settings(), True, {"PATH": "/bin"},
    )  # fmt: skip
    launch = runtime.launcher(start)
    assert launch.argv[0] == "/t/bin/tritonserver"
    assert not any("singleton" in name for name in launch.env) and launch.env["TMPDIR"] == "/f"


def test_adapters_lie_beside_the_checkpoint(home: Path, tiny: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoint(str(tiny))
    one = write_adapter(tmp_path / "one", checkpoint, ["q_proj"], r=2, lora_alpha=2)
    two = write_adapter(tmp_path / "two", checkpoint, ["down_proj"], r=4, lora_alpha=2)
    pack = packed(home, tiny, "--lora", f"first={one}", "--lora", f"second={two}")
    adapters = Adapters.read(pack / "engine")
    # Keys and values are adapted with the queries, or not at all.
    modules = ("attn_k", "attn_q", "attn_v", "mlp_4h_to_h")
    assert adapters == Adapters(("first", "second"), 4, modules)
    assert (pack / "engine/adapters/second/adapter_model.safetensors").samefile(two / "adapter_model.safetensors")
    assert read_parameters(engine_config(pack))["cuda_graphs"] == "false"
    assert Manifest.open(pack, full=True).options["lora"] == f"first={one},second={two}"
    again = [f"first={one},second={two}"]
    assert PyTorchOptions.make(lora=again).lora == again


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "--lora a is not NAME=DIR"),
        (["a b=/x"], "--lora a b=/x is not NAME=DIR"),
        (["a={adapter}", "a={adapter}"], "--lora gives the name a twice"),
        (["a=/none"], "/none has no adapter_config.json"),
        (["a={head}"], r"changes lm_head\.weight, which TensorRT-LLM does not adapt: merge it .* --merge-lora"),
        (["a={alphas}"], "has an alpha_pattern, which TensorRT-LLM does not read: merge it"),
    ],
)
def test_adapters_that_cannot_be_loaded_are_refused(
    home: Path, tiny: Path, tmp_path: Path, given: list[str], message: str
) -> None:
    checkpoint = find_checkpoint(str(tiny))
    made = {
        "adapter": write_adapter(tmp_path / "adapter", checkpoint, ["q_proj"], r=2, lora_alpha=2),
        "head": write_adapter(tmp_path / "head", checkpoint, ["lm_head"], r=2, lora_alpha=2),
        "alphas": write_adapter(
            tmp_path / "alphas", checkpoint, ["q_proj"], r=2, lora_alpha=2, alpha_pattern={"q_proj": 3}
        ),
    }
    engine = make_engine("pytorch", lora=[each.format(**made) for each in given])
    with pytest.raises((EngineError, CheckpointError), match=message):
        engine.prepare(checkpoint)


def test_an_adapter_has_another_name_than_the_model(
    home: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "one", find_checkpoint(str(tiny)), ["q_proj"], r=2, lora_alpha=2)
    argv = ["pytorch", "--checkpoint", str(tiny), "--lora", f"tiny={adapter}", "--tag", "tiny:1"]
    assert main(argv) == 2
    assert "an adapter has the name tiny, which is the model's" in capsys.readouterr().err
    assert not (home / "models/tiny").exists()


def plan(checkpoint: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["pytorch", "--checkpoint", str(checkpoint), "--dry-run", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["engine"]["settings"]
    return found


def test_a_plan_is_for_the_card_that_there_is(
    home: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan(tiny, capsys)["memory"] is None
    monkeypatch.setenv("FAKE_GPUS", "NVIDIA L4:24:8.9")
    assert plan(tiny, capsys)["memory"]["gpu"] == "NVIDIA L4"
    named = plan(tiny, capsys, "--gpu", "H100")["memory"]
    assert named["gpu"] == "H100" and named["kv_cache_tokens"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"release": "25.11"}, "release 25.11 has TensorRT-LLM 1.0.3, and the PyTorch engine needs 1.1.0"),
        ({"release": "20.01"}, "there is no release 20.01 here"),
        ({"gpu": "T4"}, r"T4 \(compute capability 7.5\) is older than TensorRT-LLM 1.2.1"),
        ({"tp": 3}, "heads .* choose --tp from"),
        ({"speculative": "eagle3"}, "--speculative eagle3 and --draft-checkpoint go together"),
        ({"draft_checkpoint": "x"}, "--speculative eagle3 and --draft-checkpoint go together"),
        ({"speculative": "eagle3", "draft_checkpoint": "/none"}, "--draft-checkpoint /none is no directory with"),
        ({"speculative": "ngram", "pp": 2}, "--speculative does not go with --pp"),
        ({"draft_tokens": 3}, "--draft-tokens goes with --speculative"),
        ({"lora": ["a=/b"], "speculative": "ngram"}, "--lora does not go with --speculative"),
        ({"lora": ["a=/b"], "cuda_graphs": True}, "--lora does not go with --cuda-graphs"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(home: Path, tiny: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        make_engine("pytorch", **options).prepare(find_checkpoint(str(tiny)))


def test_a_card_that_is_too_small(home: Path, tiny: Path) -> None:
    checkpoint = find_checkpoint(str(tiny))
    make_engine("pytorch", gpu="L4").prepare(checkpoint)
    with pytest.raises(EngineError, match=r"L4 with 25.8 GB is too small: .*--max-num-tokens or --max-seq-len"):
        make_engine("pytorch", gpu="L4", max_num_tokens=20_000_000).prepare(checkpoint)


@pytest.mark.parametrize(
    ("algorithm", "dtype", "runs", "not_on"), [("FP8", "F8_E4M3", "H100", "A100-80GB"), ("NVFP4", "U8", "B200", "H100")]
)
def test_prequantised_weights(
    home: Path, tiny: Path, algorithm: str, dtype: str, runs: str, not_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantise(tiny, algorithm, dtype)
    checkpoint = find_checkpoint(str(tiny))
    build = make_engine("pytorch", gpu=runs).prepare(checkpoint)
    assert build.manifest_part()["precision"] == algorithm.lower()
    assert prequantized.FILE in build.plan()["files"]
    with pytest.raises(EngineError, match=f"the checkpoint's {algorithm.lower()} weights run on .* {not_on} has"):
        make_engine("pytorch", gpu=not_on).prepare(checkpoint)
    # Packed where there is no card, it is asked where it runs.
    runtime = make_runtime(Manifest.read(packed(home, tiny)))
    monkeypatch.setattr(TensorRTPython, "version", lambda self: "1.2.1")
    monkeypatch.setenv("FAKE_GPUS", "NVIDIA A100-SXM4-80GB:80:8.0")
    with pytest.raises(EngineError, match=r"A100-SXM4-80GB has compute capability 8\.0"):
        runtime.check_machine()


@pytest.mark.parametrize(
    ("options", "algorithm", "cache", "bytes_a_value"),
    [
        ((), None, None, 2),
        (("--kv-cache-dtype", "fp8"), None, None, 1),
        ((), "FP8", None, 2),
        ((), "FP8", "FP8", 1),
    ],
)
def test_the_cache_is_as_large_as_its_type(
    home: Path,
    tiny: Path,
    options: tuple[str, ...],
    algorithm: str | None,
    cache: str | None,
    bytes_a_value: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if algorithm:
        quantise(tiny, algorithm, "F8_E4M3")
        said = {"quantization": {"quant_algo": algorithm, "kv_cache_quant_algo": cache}}
        (tiny / prequantized.FILE).write_text(json.dumps(said))
    config = find_checkpoint(str(tiny)).config
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    assert plan(tiny, capsys, *options)["estimate"]["kv_bytes_per_token"] == values * bytes_a_value


def test_an_fp8_cache_has_its_gpus(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "an FP8 KV cache runs on Ada, Hopper and Blackwell, and .* has compute capability 8.0: pack without"
    with pytest.raises(EngineError, match=message):
        make_engine("pytorch", gpu="A100-80GB", kv_cache_dtype="fp8").prepare(find_checkpoint(str(tiny)))
    runtime = make_runtime(Manifest.read(packed(home, tiny, "--kv-cache-dtype", "fp8")))
    monkeypatch.setattr(TensorRTPython, "version", lambda self: "1.2.1")
    monkeypatch.setenv("FAKE_GPUS", "NVIDIA A100-SXM4-80GB:80:8.0")
    with pytest.raises(EngineError, match=message):
        runtime.check_machine()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"quantization": {"quant_algo": "W4A16_AWQ"}}', "is quantised as W4A16_AWQ: pack the original, or one that"),
        ('{"quantization": []}', "does not say how the weights are quantised"),
    ],
)
def test_other_quantisations_are_refused(home: Path, tiny: Path, text: str, message: str) -> None:
    (tiny / prequantized.FILE).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        make_engine("pytorch").prepare(find_checkpoint(str(tiny)))


def test_weights_that_transformers_quantised_are_refused(home: Path, tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match=r"is quantised \(gptq\): pack the original, or one that says FP8"):
        make_engine("pytorch").prepare(find_checkpoint(str(tiny)))


def test_a_draft_checkpoint_comes_along(home: Path, tiny: Path, tmp_path: Path) -> None:
    draft = write_checkpoint(tmp_path / "draft")
    pack = packed(home, tiny, "--speculative", "eagle3", "--draft-checkpoint", str(draft), "--draft-tokens", "3")
    assert (pack / "engine/draft/model.safetensors").samefile(draft / "model.safetensors")
    (draft / "model.safetensors").rename(draft / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"draft has no model.safetensors and no model.safetensors.index.json"):
        make_engine("pytorch", speculative="eagle3", draft_checkpoint=str(draft)).prepare(find_checkpoint(str(tiny)))
    parameters = read_parameters(engine_config(pack))
    assert {name: parameters[name] for name in ("speculative", "draft_tokens", "draft_folder")} == {
        "speculative": "eagle3", "draft_tokens": "3", "draft_folder": "draft",
    }  # fmt: skip


def test_where_it_runs(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_runtime(Manifest.read(packed(home, tiny, "--tp", "2", "--release", "26.03")))
    versions = iter([None, "1.0.3", "1.4.0rc1", "1.1.0", "1.2.1.post1"])
    monkeypatch.setattr(TensorRTPython, "version", lambda self: next(versions))
    with pytest.raises(EngineError, match=r"not installed here: serve it in .*26\.03.*in_container --release 26\.03"):
        runtime.check_machine()
    for other in ("1.0.3", "1.4.0rc1"):
        with pytest.raises(EngineError, match=rf"runs with TensorRT-LLM 1\.1\.0, 1\.2\.0, 1\.2\.1, and {other} is"):
            runtime.check_machine()
    with pytest.raises(EngineError, match="the engine takes 2 GPUs and 0 can be used here"):
        runtime.check_machine()
    monkeypatch.setenv("FAKE_GPUS", "H100:80:9.0,H100:80:9.0")
    runtime.check_machine()


def test_all_of_its_containers_are_later_than_the_first() -> None:
    assert {release.tensorrt_llm for release in releases.SERVING.values()} == {"1.1.0", "1.2.0", "1.2.1"}
    assert "25.11" not in releases.SERVING and "26.07" in releases.SERVING
