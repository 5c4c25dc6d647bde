"""What a TensorRT engine would be, for the published Llamas, and what is refused before anything is built."""

import sys
from pathlib import Path

import pytest

from bento_trtllm.config import Settings
from bento_trtllm.engines import make_engine
from bento_trtllm.engines.tensorrt import gpus, sizing
from bento_trtllm.engines.tensorrt.engine import TensorRTEngine
from bento_trtllm.engines.tensorrt.releases import RELEASES, find_release, same_version
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings
from bento_trtllm.errors import BentoTRTLLMError, CheckpointError, EngineError
from tests.support.fakes import pynvml
from tests.support.llamas import CONFIGS, LLAMA3_8B, LLAMA3_70B, LLAMA31_8B, LLAMA31_405B, SMOLLM2_135M, llama

PARAMETERS = {
    LLAMA3_8B: 8_030_261_248,
    LLAMA3_70B: 70_553_706_496,
    LLAMA31_8B: 8_030_261_248,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
    LLAMA31_405B: 405_853_388_800,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    SMOLLM2_135M: 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
}
"""As published with each."""


def make(gpu: str | None = "H100", **settings: object) -> TensorRTEngine:
    engine = make_engine("tensorrt", **settings, gpu=gpu)
    assert isinstance(engine, TensorRTEngine)
    return engine


def refused(name: str, gpu: str = "H100", **settings: object) -> str:
    with pytest.raises(BentoTRTLLMError) as caught:
        make(gpu, **settings).prepare(llama(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_published_values_are_complete(name: str) -> None:
    assert llama(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "gpu", "settings"),
    [
        (LLAMA3_8B, "A100-80GB", {}),
        (LLAMA3_8B, "L40S", {"preset": "throughput", "quantization": "fp8"}),
        (LLAMA3_8B, "A10G", {"preset": "latency", "quantization": "int4_awq"}),
        (LLAMA3_8B, "L4", {"preset": "latency", "tp_size": 2}),
        (LLAMA3_8B, "T4", {"preset": "latency", "tp_size": 4, "dtype": "float16", "release": "24.11"}),
        (LLAMA3_70B, "H100", {"preset": "throughput", "tp_size": 4}),
        (LLAMA3_70B, "H100", {"preset": "throughput", "tp_size": 2, "pp_size": 2, "quantization": "fp8"}),
        (LLAMA31_8B, "H200", {"preset": "throughput"}),
        ("meta-llama/Llama-3.1-70B-Instruct", "H200", {"preset": "throughput", "quantization": "fp8"}),
        (LLAMA31_405B, "H200", {"preset": "throughput", "quantization": "fp8", "tp_size": 8}),
        (LLAMA31_405B, "H100", {"preset": "latency", "tp_size": 8, "pp_size": 2}),
        ("meta-llama/Llama-3.2-1B-Instruct", "L4", {"preset": "throughput"}),
        ("meta-llama/Llama-3.2-3B-Instruct", "RTX-4090", {"preset": "throughput"}),
        ("meta-llama/Llama-3.3-70B-Instruct", "B200", {"preset": "throughput", "quantization": "fp8"}),
        (SMOLLM2_135M, "L4", {"preset": "throughput", "tp_size": 3}),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "L4", {"preset": "throughput", "tp_size": 5}),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "L4", {"preset": "latency", "quantization": "fp8"}),
    ],
)
def test_plans(name: str, gpu: str, settings: dict[str, object]) -> None:
    engine, checkpoint = make(gpu, **settings), llama(name)
    build = engine.prepare(checkpoint)
    plan = build.plan()
    facts = plan["settings"]
    assert len(plan["files"]) == engine.settings.world_size
    assert isinstance(memory := facts["memory"], dict) and isinstance(estimate := facts["estimate"], dict)
    # The files hold each weight once, but for embeddings, which every rank of a tensor-parallel engine repeats.
    bits = {"none": 16, "fp8": 8, "int4_awq": 4, "nvfp4": 4}[engine.settings.quantization]
    assert isinstance(total := estimate["engine_bytes"], int) and isinstance(tokens := memory["kv_cache_tokens"], int)
    table = checkpoint.config.vocab_size * checkpoint.config.hidden_size * 2
    assert checkpoint.parameters * bits // 8 <= total <= checkpoint.parameters * bits // 8 * 1.2 + table * 9
    assert tokens >= build.context_length or engine.settings.max_attention_window_size
    assert isinstance(convert := facts["convert"], dict)
    assert (convert["tp_size"], convert["pp_size"]) == (engine.settings.tp_size, engine.settings.pp_size)


def test_the_formula() -> None:
    """Llama 3 8B in bfloat16, by hand: 16.06 GB of weights, 128 KiB of KV cache a token."""
    size = sizing.estimate(llama(LLAMA3_8B).config, TensorRTSettings())
    assert size.weights == size.engine == 2 * 8_030_261_248
    assert size.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2 == 128 * 1024
    activations = 2048 * (4 * 4096 + 4096 + 2 * 1024 + 3 * 14336) * 2
    assert size.reserve == 2**30 + activations + 2048 * 128256 * 8
    free = 80 * 2**30 - size.weights - size.reserve
    assert size.kv_tokens(gpus.named("H100"), 0.9) == int(free * 0.9) // (128 * 1024)
    assert size.kv_tokens(gpus.named("T4"), 0.9) == 0


def test_parallel_ranks_share_weights_and_cache() -> None:
    config = llama(LLAMA3_70B).config
    one = sizing.estimate(config, TensorRTSettings())
    eight = sizing.estimate(config, TensorRTSettings(tp_size=8))
    sixteen = sizing.estimate(config, TensorRTSettings(tp_size=16))
    piped = sizing.estimate(config, TensorRTSettings(pp_size=4))
    assert one.weights / 8 < eight.weights < one.weights / 6
    assert eight.kv_bytes_per_token == one.kv_bytes_per_token // 8
    # There are eight KV heads: more ranks hold copies.
    assert sixteen.kv_bytes_per_token == eight.kv_bytes_per_token
    assert piped.kv_bytes_per_token == one.kv_bytes_per_token // 4
    assert sizing.estimate(config, TensorRTSettings.make(quantization="fp8")).kv_bytes_per_token * 2 == (
        one.kv_bytes_per_token
    )


def test_lengths_fit_the_model() -> None:
    checkpoint = llama(LLAMA3_8B, max_position_embeddings=2048)
    for preset, longest in (("tutorial", 2048), ("throughput", 2048)):
        build = make(preset=preset).prepare(checkpoint)
        assert build.context_length == longest
        argv = build.plan()["settings"]["build"]
        assert isinstance(argv, list)
        assert argv[argv.index("--max_input_len") + 1] == "2047"
    assert make(release="24.06").prepare(llama(LLAMA3_8B)).context_length == 2048 + 1024
    old = make(release="24.06", preset="throughput").prepare(llama(LLAMA3_8B)).plan()["settings"]["build"]
    assert isinstance(old, list)
    assert old[old.index("--max_output_len") + 1] == "1024"


def test_wrong_use_is_one_sentence() -> None:
    assert "choose one of 24.06 (0.10.0), 24.07 (0.11.0)" in refused(LLAMA3_8B, release="25.08")
    assert "choose --tp from 1, 2, 4, 8, 16, 32" in refused(LLAMA3_8B, tp_size=3)
    assert "choose --tp from 1, 3" in refused(SMOLLM2_135M, tp_size=2)
    assert "choose --pp from 1, 2, 4, 8, 16, 32" in refused(LLAMA3_8B, pp_size=3)
    too_small = refused(LLAMA3_8B, gpu="T4", dtype="float16", release="24.11")
    assert too_small.startswith("T4 with 17.2 GB is too small: beside 16.1 GB of weights and")
    beyond = refused(LLAMA3_8B, gpu="A10G")
    assert "max_batch_size 2048 is beyond the KV cache" in beyond and beyond.endswith("lower --max-batch-size")
    ada = refused(LLAMA3_8B, gpu="A100-80GB", quantization="fp8")
    assert ada == (
        "fp8 runs on Ada, Hopper and Blackwell, and A100-80GB has compute capability 8.0: take --quantization "
        "int4_awq or none"
    )
    assert "nvfp4 runs on Blackwell, and H200 has compute capability 9.0: take --quantization int4_awq or fp8" in (
        refused(LLAMA3_8B, gpu="H200", quantization="nvfp4")
    )
    for gpu in ("B200", "RTX-5090"):
        # trtllm-build would say so when the quantization is paid for.
        assert "int4_awq runs on GPUs before Blackwell" in refused(LLAMA3_8B, gpu=gpu, quantization="int4_awq")
    assert "T4 (compute capability 7.5) is older than TensorRT-LLM 1.2.1 of release 26.07 was made for: take " in (
        old := refused(LLAMA3_8B, gpu="T4", dtype="float16")
    ) and old.endswith("--release 24.11 or earlier")
    assert "bfloat16 needs compute capability 8.0" in refused(LLAMA3_8B, gpu="T4", tp_size=4, release="24.06")
    assert "is newer than release 24.06" in refused(LLAMA3_8B, gpu="B200", release="24.06")
    assert "TensorRT-LLM 0.10.0 does not know: take a later --release" in refused(LLAMA31_8B, release="24.06")
    assert "INT4-AWQ quantises in groups of 128" in refused(SMOLLM2_135M, quantization="int4_awq")
    assert "an FP8 KV cache needs calibration" in refused(LLAMA3_8B, kv_cache_dtype="fp8")
    assert "leaves no room for an answer" in refused(LLAMA3_8B, max_seq_len=1024)
    assert "choose one of T4, A10" in refused(LLAMA3_8B, gpu="GTX-1080")
    assert "max_batch_size: Input should be greater than or equal to 1" in refused(LLAMA3_8B, max_batch_size=0)


def test_what_the_engine_cannot_run() -> None:
    for change, message in (({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "by yarn"),):
        with pytest.raises(CheckpointError) as caught:
            make().prepare(llama(LLAMA3_8B, **change))
        assert message in str(caught.value)


@pytest.mark.parametrize("tag", ["24.06", "24.07", "26.07"])
def test_what_the_oldest_convert(tag: str) -> None:
    """24.06 reads lm_head.weight, there or not; up to 24.07 a head has hidden_size / num_attention_heads."""
    tied, wide = llama(LLAMA3_8B, tie_word_embeddings=True), llama(LLAMA3_8B, head_dim=256)
    engine = make(release=tag, preset="latency", tp_size=2)
    engine.prepare(llama(LLAMA3_8B))
    if tag == "24.06":
        with pytest.raises(CheckpointError, match=r"tie_word_embeddings.*0\.10\.0 converts no.*take a later --release"):
            engine.prepare(tied)
    else:
        engine.prepare(tied)
    if tag == "26.07":
        engine.prepare(wide)
    else:
        with pytest.raises(CheckpointError, match=r"a head_dim of its own \(256\).*take a later --release"):
            engine.prepare(wide)


@pytest.mark.parametrize("tag", RELEASES)
def test_no_fp8_cache_with_awq(tag: str) -> None:
    """Up to 0.16 it does not build; 1.x builds it without what chunked context and reuse need."""
    with pytest.raises(EngineError, match=r"does not go with --quantization int4_awq.*take --quantization fp8"):
        make(release=tag, quantization="int4_awq", kv_cache_dtype="fp8")
    for quantization in ("fp8", "nvfp4"):
        assert make(release=tag, quantization=quantization).settings.kv_cache_dtype == "fp8"


@pytest.mark.parametrize("tag", RELEASES)
def test_nvfp4_where_the_release_can(tag: str) -> None:
    engine = make("B200", release=tag, quantization="nvfp4", preset="throughput")
    if not RELEASES[tag].version.nvfp4:
        with pytest.raises(EngineError, match=r"has no NVFP4 for Llama.*take --release 25\.09 or later"):
            engine.prepare(llama(LLAMA31_8B) if RELEASES[tag].version.scaled_rope else llama(LLAMA3_8B))
        return
    checkpoint = llama(LLAMA31_8B)
    engine.prepare(checkpoint)
    convert = engine.prepare(checkpoint).plan()["settings"]["convert"]
    assert isinstance(convert, dict)
    assert (convert["quant_algo"], convert["kv_cache_quant_algo"]) == ("NVFP4", "FP8")
    # Half a byte, and a byte for 16 of them; embeddings and lm_head stay as they were.
    table = 2 * 2 * 128256 * 4096
    matrices = 8_030_261_248 - table // 2 - (2 * 32 + 1) * 4096
    assert sizing.estimate(checkpoint.config, engine.settings).weights == (
        int(matrices * (0.5 + 1 / 16)) + 2 * 65 * 4096 + table
    )


def test_nvfp4_wants_rows_of_16() -> None:
    odd = {"intermediate_size": 14336 + 8}
    with pytest.raises(EngineError, match="has rows of 14344 weights a GPU, and NVFP4 quantises in groups of 16"):
        make("B200", quantization="nvfp4").prepare(llama(LLAMA3_8B, **odd))


@pytest.mark.parametrize("tag", RELEASES)
def test_how_an_fp8_cache_is_asked_for(tag: str) -> None:
    convert = make(release=tag, quantization="fp8").prepare(llama(LLAMA3_8B)).plan()["settings"]["convert"]
    assert isinstance(convert, dict)
    assert convert["kv_cache_quant_algo"] == ("fp8" if tag in ("24.06", "24.07") else "FP8")
    assert convert["api"] == ("0.10.0" if tag == "24.06" else "0.11.0")


@pytest.mark.parametrize("tag", RELEASES)
def test_calibration(tag: str, tmp_path: Path) -> None:
    """What get_calib_dataloader of each release takes, and what it would refuse with the model loaded."""
    (texts := tmp_path / "texts").mkdir()
    (texts / "train.jsonl").write_text('{"text": "Once upon a time"}\n')
    (other := tmp_path / "other").mkdir()
    (other / "train.csv").write_text("question,answer\n1,2\n")

    def check(dataset: str | Path) -> str:
        engine = make(release=tag, quantization="fp8", calibration_dataset=str(dataset))
        try:
            engine.prepare(llama(LLAMA3_8B))
        except EngineError as error:
            return str(error)
        convert = engine.prepare(llama(LLAMA3_8B)).plan()["settings"]["convert"]
        assert isinstance(convert, dict) and convert["calib_dataset"] == str(dataset)
        return ""

    for name in ("cnn_dailymail", "abisee/cnn_dailymail", "/data/cnn_dailymail", "pileval"):
        assert check(name) == ""
    directory = "or a directory with a data set that has a column `text`"
    wikitext = check("Salesforce/wikitext")
    assert "does not quantise with --calibration-dataset Salesforce/wikitext, and there is no directory" in wikitext
    assert "take cnn_dailymail (also below another name or directory), pileval" in wikitext
    assert wikitext.endswith(directory) == (tag != "24.06")
    assert "has pictures" in check("derek-thomas/ScienceQA")
    if tag == "24.06":
        assert "does not quantise with" in check(texts) and "no directory" not in check(texts)
    else:
        assert check(texts) == ""
        assert check(other).endswith("other has no column `text` (its columns: question, answer)")


def test_awq_samples() -> None:
    """TensorRT-LLM takes 32, whatever it is given: so the plan says."""
    plan = make(quantization="int4_awq").prepare(llama(LLAMA3_8B)).plan()["settings"]
    assert isinstance(plan["convert"], dict)
    assert plan["calibration_samples"] == plan["convert"]["calib_batches"] == 32
    assert make(quantization="int4_awq", calibration_samples=16).settings.calibration_samples == 16
    with pytest.raises(EngineError, match="int4_awq takes at most 32 --calibration-samples"):
        make(quantization="int4_awq", calibration_samples=512)
    assert make(quantization="fp8").settings.calibration_samples == 512
    with pytest.raises(EngineError, match=r"^--calibration-samples goes with a --quantization"):
        make(calibration_samples=16)


def test_a_paused_request_needs_chunks() -> None:
    with pytest.raises(EngineError, match="max_utilization needs enable_chunked_context"):
        make(preset="throughput", enable_chunked_context=False)
    make(preset="latency", enable_chunked_context=False)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "installed", list)
    engine = make(None)
    engine.prepare(llama(LLAMA3_8B))
    assert engine.prepare(llama(LLAMA3_8B)).plan()["settings"]["memory"] is None
    with pytest.raises(EngineError, match="tensorrt_llm is not installed here: run inside NVIDIA's container"):
        engine.check_machine()


def test_presets_give_way_to_what_is_said() -> None:
    settings = TensorRTSettings.make(preset="latency", max_batch_size=4, dtype=None)
    assert (settings.max_batch_size, settings.max_seq_len, settings.dtype) == (4, 8192, "bfloat16")
    assert TensorRTSettings.make(quantization="fp8").kv_cache_dtype == "fp8"
    assert TensorRTSettings.make(quantization="int4_awq").kv_cache_dtype == "auto"
    assert TensorRTSettings.make(quantization="nvfp4").kv_cache_dtype == "fp8"
    with pytest.raises(EngineError, match="preset: Input should be 'tutorial', 'throughput' or 'latency'"):
        TensorRTSettings.make(preset="fast")


def test_versions() -> None:
    assert same_version("1.0.3", "1.0.3.2510") and same_version("1.1.0", "1.1.0") and same_version("1.1.0", "1.1.0+x")
    assert not same_version("1.0.3", "1.0.30") and not same_version("1.1.0", "1.1.0rc1")
    assert find_release("25.12").image == "nvcr.io/nvidia/tritonserver:25.12-trtllm-python-py3"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "ABC"),
        ("2,0", "CA"),
        (" 1 , 2", "BC"),
        ("GPU-1", "B"),
        ("0,7,1", "A"),
        ("-1", ""),
        ("", ""),
        ("GPU-", ""),
    ],
)
def test_gpus_that_a_process_may_use(visible: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA reads the variable: one that is not there hides those after it."""
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setenv("FAKE_GPUS", "A:80:9.0,B:80:9.0,C:80:9.0")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "".join(gpu.name for gpu in gpus.installed()) == expected


def test_gpus_by_name() -> None:
    assert gpus.named("h100").name == gpus.named("NVIDIA H100").name == "H100"
    assert gpus.named("rtx 4090").sm == "8.9"
    assert gpus.named("a100-40gb").memory == 40 << 30


def test_run_time_settings_replace_only_what_is_given() -> None:
    assert Settings().parameters("tensorrt", given=True) == {}
    given = Settings(kv_cache_free_gpu_mem_fraction=0.5, enable_kv_cache_reuse=True, threads=3)
    assert given.parameters("tensorrt", given=True) == {
        "kv_cache_free_gpu_mem_fraction": "0.5",
        "enable_kv_cache_reuse": "true",
    }
    settings = Settings(enable_chunked_context=False)
    assert settings.parameters("tensorrt", given=True) == {"enable_chunked_context": "false"}
    assert Settings().parameters("openvino")["threads"] == "0"
    assert Settings().parameters("openvino")["enable_kv_cache_reuse"] == "false"
