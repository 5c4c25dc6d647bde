"""What the OpenVINO engine's model makes of its parameters on a machine."""

import sys
from pathlib import Path

import openvino_genai as genai
import pytest

from bento_trtllm.config import EngineSettings
from bento_trtllm.triton_models.openvino.precisions import Precisions

MODELS = Path(__file__).parents[2] / "bento_trtllm/triton_models"
sys.path += [str(MODELS / "shared"), str(MODELS / "openvino")]

import settings as model_settings  # noqa: E402  as Triton finds it


def read(**given: str) -> model_settings.OpenVINOSettings:
    packed = {
        "gpt_model_path": "engine",
        "vocab_size": "1000",
        "context_length": "4096",
        "kv_values_per_token": "64",
        "exclude_input_in_output": "true",
        **EngineSettings().parameters("openvino"),
        **given,
    }
    return model_settings.OpenVINOSettings.read({name: {"string_value": value} for name, value in packed.items()})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """64 hardware threads, 32 cores, no quota."""
    monkeypatch.setattr(model_settings, "cores", lambda: 64)
    monkeypatch.setattr(model_settings, "physical_cores", lambda: 32)
    return monkeypatch


@pytest.mark.parametrize(
    ("cores", "threads", "tokens"), [(64, 0, 2048), (32, 0, 2048), (8, 8, 1024), (2, 2, 512), (1, 1, 512)]
)
def test_threads_and_step_follow_the_quota(machine: pytest.MonkeyPatch, cores: int, threads: int, tokens: int) -> None:
    """Without one less than the cores, OpenVINO chooses (0)."""
    machine.setattr(model_settings, "cores", lambda: cores)
    assert (read().inference_threads(), read().prefill_tokens()) == (threads, tokens)


def test_what_is_given_counts(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(model_settings, "cores", lambda: 2)
    settings = read(threads="6", max_num_tokens="384", response_pace_ms="3")
    assert (settings.inference_threads(), settings.prefill_tokens()) == (6, 384)
    assert settings.response_pace.gap_s(10) == pytest.approx(0.03)


def test_a_prefix_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="enable_kv_cache_reuse must be false"):
        read(enable_kv_cache_reuse="true")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ("", "u8", None)),
        ({"exact": "true"}, ("f32", "f32", 0)),
        ({"exact": "true", "inference_precision": "bf16"}, ("bf16", "u8", 0)),
        ({"exact": "true", "kv_cache_precision": "u8"}, ("f32", "u8", 0)),
        ({"kv_cache_precision": "bf16"}, ("bf16", "bf16", None)),
        ({"kv_cache_precision": "f16"}, ("", "f16", None)),
        ({"inference_precision": "f32", "dynamic_quantization_group_size": "0"}, ("f32", "u8", 0)),
    ],
)
def test_what_is_left_open_follows_from_the_rest(given: dict[str, str], found: tuple[str, str, int | None]) -> None:
    precisions = read(**given).precisions
    assert (precisions.inference, precisions.kv_cache, precisions.quantization_group) == found


def test_openvino_is_told_what_is_not_its_own_choice() -> None:
    assert Precisions("", "u8", None).properties() == {"KV_CACHE_PRECISION": "u8"}
    assert Precisions("f32", "f32", 0).properties() == {
        "KV_CACHE_PRECISION": "f32", "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }  # fmt: skip


def test_the_kv_cache_is_a_part_of_what_is_free(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(model_settings, "free_memory", lambda groups: 4 * 72 * 10_000)
    # 72 bytes a token in u8, and 10,000 of them are a quarter.
    assert read().num_kv_blocks() == 10_000 // 32 + 1
    assert read(max_num_sequences="2").num_kv_blocks() == 2 * 4096 // 32 + 1
    assert read(exact="true").num_kv_blocks() == 4096 // 32 + 1  # 2,812 would be a quarter: a context at least
    assert read(max_tokens_in_paged_kv_cache="640").num_kv_blocks() == 21


def test_openvino_genai_has_no_logit_bias() -> None:
    """Nor a place for one: once it has, the engine need not refuse values other than -100 (parameters.py)."""
    names = {*dir(genai), *dir(genai.GenerationConfig), *dir(genai.ContinuousBatchingPipeline)}
    assert not {name for name in names if "bias" in name.lower() or "logit" in name.lower()}
