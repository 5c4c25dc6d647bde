"""What an OpenVINO engine computes in where no setting says so, and that OpenVINO then takes its fastest kernels."""

from collections import Counter
from pathlib import Path

import openvino as ov
import pytest
from openvino._offline_transformations import paged_attention_transformation

from bento_trtllm.config import EngineSettings
from bento_trtllm.engines.openvino import fastest
from bento_trtllm.engines.openvino.fastest import AMX, GROUP, WHOLE_TOKEN, fill_in
from bento_trtllm.engines.openvino.machine import instructions
from bento_trtllm.triton_models.openvino.precisions import Precisions
from tests.support.checkpoints import write_checkpoint
from tests.support.openvino_build import build

VNNI = {"avx2", "avx512f", "avx512_vnni"}
FUSED = ("bf16", "u8", WHOLE_TOKEN)
ROUNDED = ("f32", "u8", GROUP)


def served(weights: str, **given: str) -> Precisions:
    return Precisions.read(fill_in(weights, {**EngineSettings().parameters("openvino"), **given}))


@pytest.mark.parametrize(
    ("weights", "cpu", "given", "found"),
    [
        ("int8", VNNI | AMX, {}, FUSED),
        ("int8", VNNI, {}, ROUNDED),
        ("int8", VNNI | {"amx_bf16"}, {}, ROUNDED),
        ("int4", VNNI | AMX, {}, ROUNDED),
        ("int4", VNNI, {}, ROUNDED),
        ("f16", VNNI | AMX, {}, ("", "u8", None)),
        ("bf16", VNNI, {}, ("", "u8", None)),
        ("f32", VNNI | AMX, {"exact": "true"}, ("f32", "f32", 0)),
        ("int8", VNNI | AMX, {"exact": "true"}, ("f32", "f32", 0)),
        ("int8", VNNI | AMX, {"inference_precision": "f32"}, ROUNDED),
        ("int8", VNNI | AMX, {"inference_precision": "bf16"}, FUSED),
        ("int8", VNNI | AMX, {"kv_cache_precision": "f32"}, ("f32", "f32", GROUP)),
        ("int8", VNNI | AMX, {"kv_cache_precision": "f16"}, ("bf16", "f16", WHOLE_TOKEN)),
        ("int4", VNNI | AMX, {"kv_cache_precision": "bf16"}, ("bf16", "bf16", GROUP)),
        ("int4", VNNI | AMX, {"inference_precision": "bf16"}, ("bf16", "u8", GROUP)),
        ("int8", VNNI | AMX, {"dynamic_quantization_group_size": "64"}, ("bf16", "u8", 64)),
        ("int4", VNNI, {"dynamic_quantization_group_size": "0"}, ("f32", "u8", 0)),
    ],
)
def test_what_is_left_open_is_what_is_fastest(
    weights: str,
    cpu: set[str],
    given: dict[str, str],
    found: tuple[str, str, int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastest, "instructions", lambda: cpu)
    precisions = served(weights, **given)
    assert (precisions.inference, precisions.kv_cache, precisions.quantization_group) == found


@pytest.mark.parametrize("weights", ["int8", "int4", "f16"])
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16", ""])
@pytest.mark.parametrize("cache", ["f32", "bf16", "f16", "u8", ""])
def test_what_is_filled_in_goes_together(weights: str, precision: str, cache: str) -> None:
    """Where a user's settings do, so do they with what is filled in."""
    given = {"inference_precision": precision or None, "kv_cache_precision": cache or None}
    try:
        settings = EngineSettings.model_validate(given)
    except ValueError:
        return
    filled = fill_in(weights, {**settings.parameters("openvino"), "exact": "false"})
    EngineSettings.model_validate({name: filled[name] or None for name in given})


def kernels(engine: Path, precisions: Precisions) -> Counter[str]:
    """How many nodes of each kind OpenVINO makes of an engine, as ContinuousBatchingPipeline has it compiled."""
    core = ov.Core()
    model = core.read_model(engine / "openvino_model.xml")
    paged_attention_transformation(model)
    compiled = core.compile_model(model, "CPU", precisions.properties())
    return Counter(str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_runtime_model().get_ops())


@pytest.mark.slow
@pytest.mark.parametrize(("inner", "fused"), [(192, True), (160, False)])
@pytest.mark.parametrize("precision", ["int8", "int4", "f16", "bf16"])
def test_an_mlp_is_one_kernel_where_there_is_one(precision: str, inner: int, fused: bool, tmp_path: Path) -> None:
    """On a CPU with AMX. Sizes that the kernel fails to load are computed without it; so are weights of 4 bits. The
    numpy reference has the last word on any CPU."""
    checkpoint = write_checkpoint(tmp_path / "tiny", hidden=128, inner=inner, layers=2)
    prepared = build(checkpoint, precision, tmp_path / "engine")
    proof = prepared.prove(tmp_path / "engine")
    assert proof.exact_log_prob_error is not None
    assert 0 < proof.exact_log_prob_error < 2e-4 < proof.log_prob_error < 1
    found = kernels(tmp_path / "engine", served(precision))
    expected = 2 if fused and precision != "int4" and instructions() >= AMX else 0
    assert found["LLMMLP"] == expected, found
