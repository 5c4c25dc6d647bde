"""Settings that depend on the machine."""

import os

import pytest

from bento_trtllm.arguments import read_settings
from bento_trtllm.config import EngineSettings, Settings, default_workers, engines_of
from bento_trtllm.engines import ENGINES, make_runtime
from bento_trtllm.errors import EngineError, SettingsError, TritonError
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.process.door import Door
from bento_trtllm.triton_models.shared.cores import cores

OPENVINO = Manifest(
    engine="openvino", precision="f16", source="llama", revision=None, checksum=None, architecture="LlamaForCausalLM",
    parameters=1, dtype="F16", vocab_size=512, context_length=2048, bos_id=None, eos_ids=[0], versions={},
)  # fmt: skip
TENSORRT = OPENVINO.model_copy(
    update={
        "engine": "tensorrt",
        "build": {
            "release": "26.07", "tensorrt_llm": "1.2.1", "gpu": "H100", "compute_capability": "9.0", "tp_size": 1,
            "pp_size": 1, "preset": "tutorial", "dtype": "bfloat16", "quantization": "none", "kv_cache_dtype": "auto",
            "max_batch_size": 8, "max_input_len": 1024, "max_seq_len": 2048, "max_num_tokens": 1024,
        },
    }
)  # fmt: skip
PACKED = {"batch_scheduler_policy": "guaranteed_no_evict", "enable_chunked_context": "true"}


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (16, 2), (32, 2), (192, 2)])
def test_default_workers(count: int, workers: int) -> None:
    assert default_workers(count) == workers


def test_workers_are_the_machines_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTLLM_WORKERS", raising=False)
    assert Settings().workers == default_workers(cores())
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("TRTLLM_WORKERS", "3")
    assert Settings().workers == 3


@pytest.mark.parametrize("inference", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("cache", ["f32", "bf16", "f16", "u8"])
def test_precisions_that_the_engine_cannot_combine_are_refused(inference: str, cache: str) -> None:
    values = {"inference_precision": inference, "kv_cache_precision": cache}
    if cache in ("f16", "u8") or cache == inference:
        assert EngineSettings.model_validate(values).parameters("openvino")["kv_cache_precision"] == cache
    else:
        with pytest.raises(ValueError, match=f"kv_cache_precision={cache} does not go with inference_precision="):
            EngineSettings.model_validate(values)


@pytest.mark.parametrize(
    "odd", [{"inference_precision": "bf16"}, {"kv_cache_precision": "u8"}, {"dynamic_quantization_group_size": "32"}]
)
def test_exactness_bears_no_rounding(odd: dict[str, str]) -> None:
    ((name, value),) = odd.items()
    with pytest.raises(ValueError, match=f"exact=true does not go with {name}={value}: leave one of them out"):
        EngineSettings.model_validate({"exact": "true", **odd})
    assert EngineSettings.model_validate({"exact": "false", **odd}).parameters("openvino")[name] == value


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_model_that_was_packed_in_f32_is_computed_exactly(precision: str) -> None:
    runtime = make_runtime(OPENVINO.model_copy(update={"precision": precision}))
    assert runtime.parameters(Settings(), {})["exact"] == str(precision == "f32").lower()
    assert runtime.parameters(Settings(exact=True), {})["exact"] == "true"
    assert runtime.parameters(Settings(exact=False), {})["exact"] == "false"


def test_a_model_that_has_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bento_trtllm.engines.openvino.runtime.free_memory", lambda groups: 3_000_000_000)
    runtime = make_runtime(OPENVINO.model_copy(update={"memory": {"loaded": 2_000_000_000}}))
    parameters = runtime.parameters(Settings(), {"kv_values_per_token": str(2**19)})
    with pytest.raises(EngineError) as caught:
        runtime.check_room(parameters)
    assert str(caught.value) == (
        "the packed model takes 2.0 GB of memory, and 1.2 GB for a KV cache of 2,048 tokens, and this machine has "
        "3.0 GB free: pack it with --precision int4, give a smaller max_tokens_in_paged_kv_cache, or take a larger "
        "machine"
    )
    runtime.check_room({**parameters, "max_tokens_in_paged_kv_cache": "1024"})


@pytest.mark.parametrize("value", ["0", "0.5", "-1", "2.5"])
def test_cancellations_are_looked_for_every_whole_millisecond(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-LLM's backend reads an int, and what it reads as 0 keeps a core busy."""
    monkeypatch.setenv("TRTLLM_CANCELLATION_CHECK_PERIOD_MS", value)
    with pytest.raises(ValueError, match="cancellation_check_period_ms"):
        Settings()
    monkeypatch.setenv("TRTLLM_CANCELLATION_CHECK_PERIOD_MS", "1")
    assert Settings().parameters("tensorrt", given=True) == {"cancellation_check_period_ms": "1"}
    assert Settings().parameters("openvino")["cancellation_check_period_ms"] == "1"


def test_openvinos_prefix_cache_is_off_and_refused() -> None:
    assert EngineSettings().parameters("openvino")["enable_kv_cache_reuse"] == "false"
    with pytest.raises(
        EngineError, match=r"enable_kv_cache_reuse=true is refused with the OpenVINO engine: .*leave it"
    ):
        make_runtime(OPENVINO).parameters(Settings(enable_kv_cache_reuse=True), {})


@pytest.mark.parametrize(
    ("manifest", "name", "value", "other"),
    [
        (TENSORRT, "threads", "2", "openvino"),
        (TENSORRT, "kv_cache_precision", "f16", "openvino"),
        (TENSORRT, "step_limit_s", "30", "openvino"),
        (OPENVINO, "kv_cache_free_gpu_mem_fraction", "0.5", "tensorrt and pytorch"),
        (OPENVINO, "batch_scheduler_policy", "max_utilization", "tensorrt and pytorch"),
    ],
)
def test_a_setting_that_the_engine_ignores_is_refused(
    manifest: Manifest, name: str, value: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(manifest)
    sentence = f"the setting {name} is for the engine {other}, and the packed model's is {manifest.engine}"
    with pytest.raises(EngineError, match=sentence):
        runtime.parameters(Settings.model_validate({name: value}), PACKED)
    monkeypatch.setenv(f"TRTLLM_{name.upper()}", value)
    with pytest.raises(EngineError, match=sentence):
        runtime.parameters(Settings(), PACKED)
    monkeypatch.setenv(f"TRTLLM_{name.upper()}", "")
    assert runtime.parameters(Settings(), PACKED).items() >= PACKED.items()


def test_every_setting_of_an_engine_says_whose_it_is() -> None:
    for name in EngineSettings.model_fields:
        assert engines_of(name) and set(engines_of(name)) <= set(ENGINES), name
    assert engines_of("workers") == ()


def test_what_runs_a_model() -> None:
    openvino, tensorrt = make_runtime(OPENVINO), make_runtime(TENSORRT)
    assert (openvino.gpu, openvino.bans_first_end_only, openvino.ranks) == (False, False, 1)
    assert (tensorrt.gpu, tensorrt.bans_first_end_only, tensorrt.ranks) == (True, True, 1)
    assert openvino.longest_prompt({"enable_chunked_context": "false"}) == 2047
    assert tensorrt.longest_prompt({"enable_chunked_context": "false"}) == 1024
    assert tensorrt.longest_prompt(PACKED) == 2047
    with pytest.raises(EngineError, match="is for the engine vllm, which this version does not have"):
        make_runtime(OPENVINO.model_copy(update={"engine": "vllm"}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"grpc_address": "0.0.0.0", "grpc_port": 8001}, "grpc_address=0.0.0.0 lets other machines run prompts"),
        ({"grpc_address": "::", "grpc_port": 8001}, "grpc_address=:: lets other machines run prompts"),
        ({"grpc_key": "key"}, "grpc_key has no effect without grpc_port"),
        ({"grpc_address": "127.0.0.2"}, "grpc_address has no effect without grpc_port"),
        ({"grpc_address": "everywhere", "grpc_port": 8001}, "grpc_address=everywhere cannot be used"),
        (
            {"grpc_key": "secret,word", "grpc_port": 8001},
            "grpc_key=… cannot be used: it may contain only letters, digits",
        ),
        ({"grpc_key": "secret\n", "grpc_port": 8001}, "grpc_key=… cannot be used: it may contain only letters, digits"),
        ({"grpc_port": 65536}, "grpc_port=65536 cannot be used"),
    ],
)
def test_a_door_that_is_none_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(given)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_a_door_of_this_machine_needs_no_key() -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        door = Door.of(read_settings({"grpc_port": 8001, "grpc_address": address}))
        assert (door.host, door.metadata, door.open) == (address, (), True)
    assert not Door.of(Settings()).open


def test_the_service_finds_a_door_to_the_network() -> None:
    settings = {"grpc_port": "8001", "grpc_key": "a/b+c~d.e_f-g="}
    assert Door.of(read_settings(settings | {"grpc_address": "0.0.0.0"})).at(8001) == "127.0.0.1:8001"
    door = Door.of(read_settings(settings | {"grpc_address": "::"}))
    assert door.at(8001) == "[::1]:8001"
    assert door.arguments(8001) == [
        "--grpc-address=[::]",
        "--grpc-port=8001",
        "--grpc-restricted-protocol=inference,metadata,model-config:infer-key=a/b+c~d.e_f-g=",
    ]


def test_an_address_of_another_machine_is_told_so() -> None:
    door = Door.of(read_settings({"grpc_port": 8001, "grpc_address": "192.0.2.1", "grpc_key": "key"}))
    with pytest.raises(TritonError, match=r"192\.0\.2\.1:8001 .*this machine has no such address"):
        door.check()


def test_a_proxy_has_room_for_all_requests() -> None:
    for running, waiting in ((1, 0), (256, 256), (4000, 100)):
        settings = Settings(max_running_requests=running, max_waiting_requests=waiting)
        in_all, of_an_address = settings.connections()
        assert of_an_address >= 2 * (running + waiting)
        assert in_all >= 4 * of_an_address >= 4096
    assert Settings(max_connections=5, max_connections_per_address=3).connections() == (5, 3)
