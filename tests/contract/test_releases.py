"""For each release: the repository against the tensors of NVIDIA's own, and trtllm-build's options."""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from bento_trtllm.engines import make_engine
from bento_trtllm.engines.base import Engine
from bento_trtllm.engines.tensorrt import guided
from bento_trtllm.engines.tensorrt.engine import PLAN_TIMING
from bento_trtllm.engines.tensorrt.releases import DEFAULT, RELEASES
from bento_trtllm.engines.tensorrt.runtime import TensorRTRuntime
from bento_trtllm.engines.tensorrt.settings import PRESETS
from bento_trtllm.engines.tensorrt.versions import VERSIONS
from bento_trtllm.errors import EngineError
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.engine_request import engine_request
from bento_trtllm.generation.errors import InvalidRequest
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.manifest import DialectName
from bento_trtllm.packing.repository import configurations, write_repository
from bento_trtllm.triton.process.repository import place_repository, read_config
from bento_trtllm.triton.wire.codec import encode
from bento_trtllm.triton.wire.dialects import DIALECTS, RENAMED
from tests.support.llamas import LLAMA3_8B, llama

HERE = Path(__file__).parent
READ = sorted({name for release in RELEASES.values() for name in release.version.read})
CONTRACTS = {
    name: json.loads((HERE / f"inflight_batcher_llm-{name}.json").read_text("utf-8"))["models"] for name in READ
}
BUILD = json.loads((HERE / "trtllm-build.json").read_text("utf-8"))
FIRST_TAGS = {release.tensorrt_llm: release.tag for release in reversed(RELEASES.values())}
"""Of the containers that have a version."""
CASES = [(tag, name) for tag in FIRST_TAGS.values() for name in RELEASES[tag].version.read]
"""Each version with each data that it was compared with."""
MODELS = ("preprocessing", "tensorrt_llm", "postprocessing", "ensemble")
PASSED_ON = ("cum_log_probs", "output_log_probs", "batch_index")
TEMPLATES = {"gpt_model_path": "engine_dir", "gpt_model_type": "batching_strategy"}


def make(tag: str, gpu: str = "H100", **settings: object) -> Engine:
    return make_engine("tensorrt", release=tag, **settings, gpu=gpu)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    tag, name = request.param
    return tag, name


@pytest.fixture(scope="module")
def read(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture(scope="module")
def dialect(case: tuple[str, str]) -> DialectName:
    return RELEASES[case[0]].dialect


@pytest.fixture(scope="module")
def configs(case: tuple[str, str]) -> dict[str, pb.ModelConfig]:
    return {config.name: config for config in configurations(make(case[0]).prepare(llama(LLAMA3_8B)))}


def theirs(read: str, model: str, side: str) -> dict[str, dict[str, Any]]:
    return {tensor["name"]: tensor for tensor in CONTRACTS[read][model][side]}


def test_tensors_are_upstreams(read: str, configs: dict[str, pb.ModelConfig]) -> None:
    for model, side in product(MODELS, ("input", "output")):
        upstream = theirs(read, model, side)
        ours = getattr(configs[model], side)
        assert ours, (model, side)
        for tensor in ours:
            where = model, side, tensor.name
            their = upstream[tensor.name]  # a KeyError is a tensor that upstream does not have
            assert pb.DataType.Name(tensor.data_type) == their["data_type"], where
            assert list(tensor.dims) == their["dims"], where
            if side == "input" and model == "tensorrt_llm":
                assert tensor.HasField("reshape") == ("reshape" in their), where
                assert tensor.allow_ragged_batch == their.get("allow_ragged_batch", False), where


def test_every_required_input_of_upstream_is_there(read: str, configs: dict[str, pb.ModelConfig]) -> None:
    for model in MODELS:
        required = {name for name, tensor in theirs(read, model, "input").items() if not tensor.get("optional")}
        assert {tensor.name for tensor in configs[model].input if not tensor.optional} == required, model


def test_parameters_are_upstreams(read: str, configs: dict[str, pb.ModelConfig]) -> None:
    config, upstream = configs["tensorrt_llm"], CONTRACTS[read]["tensorrt_llm"]
    assert config.backend == upstream["backend"]
    assert set(config.parameters) <= set(upstream["parameters"])
    keys = upstream["template_keys"]
    for name in config.parameters:
        assert TEMPLATES.get(name, name) in keys or name == "FORCE_CPU_ONLY_INPUT_TENSORS"
    assert config.dynamic_batching.HasField("default_queue_policy") == ("max_queue_size" in keys)
    assert [group.kind for group in config.instance_group] == [pb.ModelInstanceGroup.KIND_CPU]


def test_ensemble_is_wired(read: str, configs: dict[str, pb.ModelConfig]) -> None:
    """As upstream does it, and each tensor is made once, with the type that its reader takes."""
    upstream = {step["model"]: step for step in CONTRACTS[read]["ensemble"]["steps"]}
    made = {tensor.name: tensor.data_type for tensor in configs["ensemble"].input}
    for step in configs["ensemble"].ensemble_scheduling.step:
        their = upstream[step.model_name]
        assert dict(step.input_map).items() <= their["input_map"].items()
        # Up to 0.13.0 postprocessing hands these on, unchanged: to a client it is the same.
        named = {ours: target for ours, target in step.output_map.items() if ours not in PASSED_ON}
        assert named.items() <= their["output_map"].items()
        inputs = {tensor.name: tensor for tensor in configs[step.model_name].input}
        outputs = {tensor.name: tensor for tensor in configs[step.model_name].output}
        for name, source in step.input_map.items():
            assert inputs[name].data_type == made[source], f"{step.model_name}.{name}"
        assert {name for name, tensor in inputs.items() if not tensor.optional} <= set(step.input_map)
        for name, target in step.output_map.items():
            assert target not in made
            made[target] = outputs[name].data_type
    for tensor in configs["ensemble"].output:
        assert made[tensor.name] == tensor.data_type


def test_the_client_asks_by_the_names_of_the_release(dialect: DialectName, configs: dict[str, pb.ModelConfig]) -> None:
    request = TokenRequest(
        [1, 2], 3, 4, [[5]], temperature=1, top_k=1, top_p=0.5, repetition_penalty=1, presence_penalty=1,
        frequency_penalty=1, seed=1, min_tokens=1, bad_words=[[6]], embedding_bias=[0.5], log_probs=True,
        guide=None if dialect != "1.x" else ("ebnf_grammar", "root ::= \"é\""),
    )  # fmt: skip
    message = encode(request, RENAMED[dialect], TensorRTRuntime.requested)
    inputs = {tensor.name: tensor for tensor in configs["tensorrt_llm"].input}
    for sent in message.inputs:
        assert sent.datatype == pb.DataType.Name(inputs[sent.name].data_type).removeprefix("TYPE_").replace(
            "STRING", "BYTES"
        )
    assert len(message.inputs) == (17 if dialect != "1.x" else 19)
    asked = {output.name for output in message.outputs}
    # Without the first two the C++ backend throws for each response.
    assert asked == {"output_ids", "sequence_length", "output_log_probs"}
    assert asked <= {tensor.name for tensor in configs["tensorrt_llm"].output}
    # Without the outputs that are its answer.
    assert "return_perf_metrics" not in inputs


@pytest.mark.parametrize("tag", RELEASES)
def test_written_and_placed(tag: str, tmp_path: Path) -> None:
    engine = make(tag)
    packed, run = tmp_path / "packed", tmp_path / "run"
    (packed / "repository").mkdir(parents=True)
    write_repository(packed / "repository", engine.prepare(llama(LLAMA3_8B)))
    for file in (packed / "repository").glob("*/config.pbtxt"):
        assert '"/' not in file.read_text()
        text_format.Parse(file.read_text(), pb.ModelConfig())
    assert [path.name for path in (packed / "repository/tensorrt_llm/1").iterdir()] == [".keep"]
    placed = place_repository(packed, run, {"kv_cache_free_gpu_mem_fraction": "0.5"})
    parameters = read_config(placed / "tensorrt_llm").parameters
    assert parameters["gpt_model_path"].string_value == str(packed / "engine")
    assert parameters["kv_cache_free_gpu_mem_fraction"].string_value == "0.5"
    # The backend of 1.x does not start without these three; earlier ones have no guided decoding.
    if RELEASES[tag].dialect != "1.x":
        assert not parameters.keys() & guided.PARAMETERS.keys()
    else:
        assert parameters["guided_decoding_backend"].string_value == "xgrammar"
        assert parameters["xgrammar_tokenizer_info_path"].string_value == str(packed / "engine" / guided.FILE)
        assert parameters["tokenizer_dir"].string_value == str(packed / "tokenizer")


@pytest.mark.parametrize("tag", FIRST_TAGS.values())
def test_trtllm_build_takes_the_options(tag: str) -> None:
    parsers = {}
    for name in RELEASES[tag].version.built_with:
        parsers[name] = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
        for option, choices in BUILD[name]["options"].items():
            parsers[name].add_argument(f"--{option}", choices=choices)
    for preset, quantization in product(PRESETS, ("none", "fp8", "int4_awq", "nvfp4")):
        case = preset, quantization
        gpu = "B200" if quantization == "nvfp4" else "H100"
        engine = make(tag, gpu, preset=preset, quantization=quantization, tp_size=2)
        if quantization == "nvfp4" and not RELEASES[tag].version.nvfp4:
            with pytest.raises(EngineError, match="has no NVFP4 for Llama"):
                engine.prepare(llama(LLAMA3_8B))
            continue
        argv = engine.prepare(llama(LLAMA3_8B)).plan()["settings"]["build"]
        assert isinstance(argv, list)
        assert argv[0] == "trtllm-build"
        for parser in parsers.values():
            parsed, unknown = parser.parse_known_args([str(part) for part in argv[1:]])
            assert unknown == [], case
            assert (parsed.workers, parsed.gpt_attention_plugin) == ("2", "bfloat16"), case
            assert (parsed.input_timing_cache, parsed.output_timing_cache) == PLAN_TIMING, case


def test_the_tutorial_is_bentotrtllms() -> None:
    """What BentoTRTLLM gives to trtllm-build and fills into the configuration, at its own release."""
    engine = make("24.06")
    argv = engine.prepare(llama(LLAMA3_8B)).plan()["settings"]["build"]
    assert isinstance(argv, list)
    flags = dict(zip(argv[1::2], argv[2::2], strict=True))
    for name in ("checkpoint_dir", "output_dir", "workers", "input_timing_cache", "output_timing_cache"):
        del flags[f"--{name}"]
    assert flags == {
        "--gpt_attention_plugin": "bfloat16",
        "--gemm_plugin": "bfloat16",
        "--max_batch_size": "2048",
        "--max_input_len": "2048",
        "--max_num_tokens": "2048",
        "--multiple_profiles": "enable",
        "--paged_kv_cache": "enable",
        "--use_paged_context_fmha": "enable",
    }
    config = engine.prepare(llama(LLAMA3_8B)).model_config()
    values = {name: parameter.string_value for name, parameter in config.parameters.items()}
    assert values == {
        "normalize_log_probs": "false",  # ours: else a greedy token's score is 0.0
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": "engine",
        "max_beam_width": "1",
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "max_attention_window_size": "2560",
        "kv_cache_free_gpu_mem_fraction": "0.9",
        "exclude_input_in_output": "true",
        "enable_chunked_context": "true",
        # TensorRT-LLM's defaults, said aloud; the last is five times its pace.
        "enable_kv_cache_reuse": "false",
        "batch_scheduler_policy": "guaranteed_no_evict",
        "cancellation_check_period_ms": "20",
    }
    assert (config.max_batch_size, config.model_transaction_policy.decoupled) == (2048, True)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_since_when_there_are_guides() -> None:
    """A client is told the first release whose tensors have them."""
    have = (tag for tag in sorted(RELEASES) if guided.INPUT not in DIALECTS[RELEASES[tag].dialect].absent)
    first = RELEASES[next(have)]
    profile = EngineProfile(100, 100, (1,), 99, guided=False)
    asked = GenerationRequest([1], 5, Sampling(grammar=cast(Any, object())))
    with pytest.raises(InvalidRequest, match=f"from {first.tag} on have it, TensorRT-LLM {first.tensorrt_llm}"):
        engine_request(asked, profile, cast(Any, None))


def test_every_container_was_compared() -> None:
    """Which dialects there are, and that no data lies about unused, or a version unread."""
    assert {release.dialect for release in RELEASES.values()} == set(DIALECTS) == set(RENAMED)
    assert {release.tensorrt_llm for release in RELEASES.values()} == set(VERSIONS)
    files = {path.stem.removeprefix("inflight_batcher_llm-") for path in HERE.glob("inflight_batcher_llm-*.json")}
    assert files == set(READ)
    assert {name for version in VERSIONS.values() for name in version.built_with} == BUILD.keys() - {"about"}
    assert max(RELEASES) == DEFAULT == "26.07" and RELEASES[DEFAULT].tensorrt_llm == "1.2.1"
    # Whose names are not known: see versions.py.
    assert not {"25.02", "25.04", "25.05", "25.06", "25.07", "25.08"} & RELEASES.keys()


@pytest.mark.parametrize("name", READ)
def test_the_names_of_a_version_are_the_only_ones(name: str) -> None:
    """A client that used the others would be given tokens, by another seed and length."""
    inputs = {tensor["name"] for tensor in CONTRACTS[name]["tensorrt_llm"]["input"]}
    dialects = {version.dialect for version in VERSIONS.values() if name in version.read}
    for dialect in dialects:
        for ours, theirs in {"seed": "random_seed", "min_tokens": "min_length", **RENAMED[dialect]}.items():
            assert (ours in inputs) == (not RENAMED[dialect]) and (theirs in inputs) == bool(RENAMED[dialect])
