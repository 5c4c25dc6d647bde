"""LoRA adapters: what is refused, and what merging one makes of the weights, against the formula of PEFT's source.

peft 0.21.2, tuners/lora/layer.py: update_layer has scaling = lora_alpha / r, with use_rslora lora_alpha / sqrt(r);
get_delta_weight is (weight_B @ weight_A) * scaling, which merge adds to the weight. Here in f64.
"""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm.checkpoint import merge as merging
from bento_trtllm.checkpoint.adapter import CONFIG, WEIGHTS, read_adapter
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checkpoint.merge import merge, read_mergeable
from bento_trtllm.checkpoint.safetensors import read_shard
from bento_trtllm.checkpoint.values import widen
from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.errors import CheckpointError
from bento_trtllm.manifest import Manifest
from pack_model import main
from tests.support.adapters import write_adapter
from tests.support.checkpoints import write_checkpoint, write_safetensors

HALF_STEP = {"F32": 2.0**-23, "F16": 2.0**-11, "BF16": 2.0**-8}
"""How far the nearest number of a type is, relatively; f32's sums are rounded, too."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return find_checkpoint(str(write_checkpoint(tmp_path_factory.mktemp("base") / "tiny")))


def values(path: Path) -> dict[str, Any]:
    return {name: widen(tensor.open()).astype(np.float64) for name, tensor in read_shard(path).items()}


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({"r": 4, "lora_alpha": 12}, {"q_proj": 3, "down_proj": 3}),
        ({"r": 4, "lora_alpha": 12, "use_rslora": True}, {"q_proj": 6, "down_proj": 6}),
        (
            {"r": 4, "lora_alpha": 8, "rank_pattern": {"down_proj": 2}, "alpha_pattern": {r".*\.1\..*q_proj": 16}},
            {"layers.0.self_attn.q_proj": 2, "layers.1.self_attn.q_proj": 4, "down_proj": 4},
        ),
    ],
)  # fmt: skip
def test_the_sum_is_pefts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, config: dict[str, Any], scales: dict[str, float]
) -> None:
    # Some rows at a time, the last ones fewer.
    monkeypatch.setattr(merging, "SLICE_ELEMENTS", 600)
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path / "base", dtype=dtype, shards=2)))
    adapter = write_adapter(tmp_path / "adapter", checkpoint, ["q_proj", "down_proj"], **config)
    merged = merge(checkpoint, read_mergeable(str(adapter), checkpoint), tmp_path / "merged")
    assert merged.source == checkpoint.source and merged.tensors.keys() == checkpoint.tensors.keys()
    low = values(adapter / WEIGHTS)
    for name, tensor in checkpoint.tensors.items():
        before, after = widen(tensor.open()).astype(np.float64), widen(merged.tensors[name].open())
        assert merged.tensors[name].dtype == dtype
        scale = next((scale for end, scale in scales.items() if name.endswith(f"{end}.weight")), None)
        if scale is None:
            assert np.array_equal(before, after), name
            continue
        key = f"base_model.model.{name.removesuffix('.weight')}"
        added = scale * (low[f"{key}.lora_B.weight"] @ low[f"{key}.lora_A.weight"])
        assert np.abs(added).max() > 0.1
        allowed = HALF_STEP[dtype] * np.abs(before + added) + 2.0**-20
        assert (np.abs(after - (before + added)) <= allowed).all(), name


@pytest.mark.slow
def test_a_merged_pack_answers_as_the_sum(
    base: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pack_model.py leaves nothing but the pack, whose weights are the merged ones, and says how it was made."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    adapter = write_adapter(tmp_path / "adapter", base, ["q_proj", "v_proj", "up_proj"], r=2, lora_alpha=4)
    options = ["--checkpoint", str(base.path), "--merge-lora", str(adapter), "--tag", "tiny:1"]
    assert main(["openvino", *options, "--precision", "f32"]) == 0
    assert list((tmp_path / "bentoml/tmp").iterdir()) == []
    pack = tmp_path / "bentoml/models/tiny/1"
    manifest = Manifest.open(pack, full=True)
    assert manifest.options == {"precision": "f32", "merge-lora": str(adapter)}
    assert manifest.source == str(base.path) and manifest.checksum
    merged = merge(base, read_mergeable(str(adapter), base), tmp_path / "merged")
    assert manifest.checksum == merged.checksum != base.checksum
    weights = (pack / "engine/openvino_model.bin").read_bytes()
    for name in ("model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"):
        assert widen(merged.tensors[name].open()).tobytes() in weights
    ids = [3, 1, 4, 1, 5]
    assert not np.allclose(Reference.load(merged.path).logits(ids), Reference.load(base.path).logits(ids), atol=0.1)
    capsys.readouterr()
    assert main(["pytorch", *options, "--force", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["merged"] == {"adapter": str(adapter), "weights": 6}


NOT_THESE = "take the checkpoint that the adapter was trained on"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, r"adapter_config.json has the peft_type IA3: only LORA"),
        ({"bias": "all"}, "has bias all: only an adapter without"),
        ({"use_dora": True}, r"has use_dora: only plain LoRA .* \(merge_and_unload\)"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save: only plain LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "has init_lora_weights pissa_niter_4, which changes the base"),
        ({"base_model_name_or_path": "meta-llama/Llama-3"}, "is for meta-llama/Llama-3, and the checkpoint is .*tiny:"),
        ({"r": 8}, rf"lora_A of .*q_proj has the shape \[4, 64\], and rank 8 on .* takes \[8, 64\]: {NOT_THESE}"),
        ({"r": 0}, "adapter_config.json cannot be used: r: "),
        ({"rank_pattern": {"(": 1}}, "has '\\(', which is no regular expression"),
        ({"target_modules": ["v_proj"]}, "has weights for model.layers.0.self_attn.q_proj, which target_modules"),
        ({"target_modules": ["q_proj", "v_proj"]}, "names v_proj in target_modules, and .* has no weights for it"),
        ({"target_modules": r".*\.v_proj"}, "has weights for model.layers.0.self_attn.q_proj"),
    ],
)
def test_what_does_not_fit_is_refused(base: Checkpoint, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    adapter = write_adapter(tmp_path / "adapter", base, ["q_proj"], r=4, lora_alpha=4)
    read_adapter(str(adapter), base)
    config = json.loads((adapter / CONFIG).read_text()) | change
    (adapter / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_adapter(str(adapter), base)
    assert "\n" not in str(caught.value)


Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{Q0}.lora_A.weight": (4, 64)}, "has no lora_B for model.layers.0.self_attn.q_proj"),
        ({f"{Q0}.lora_A.weight": (4, 64), f"{Q0}.lora_B.weight": (32, 4)}, rf"lora_B .* \[32, 4\], .* {NOT_THESE}"),
        ({f"{Q0}.lora_magnitude_vector": (64,)}, "holds .*lora_magnitude_vector: only lora_A and lora_B"),
        (
            {f"{Q0.replace('0', '7')}.lora_A.weight": (4, 64)},
            "is for model.layers.7.self_attn.q_proj, which .*tiny does",
        ),
        ({}, "has an empty adapter_model.safetensors"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    base: Checkpoint, tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base, ["q_proj"], r=4, lora_alpha=4)
    zeros = {name: ("F32", np.zeros(shape, np.float32)) for name, shape in tensors.items()}
    write_safetensors(adapter / WEIGHTS, zeros)
    with pytest.raises(CheckpointError, match=message):
        read_adapter(str(adapter), base)


def test_no_adapter_is_refused(base: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json: name the directory of a LoRA adapter"):
        read_adapter(str(tmp_path), base)
    adapter = write_adapter(tmp_path / "adapter", base, ["q_proj"], r=4, lora_alpha=4)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors: save the adapter again"):
        read_adapter(str(adapter), base)


def test_a_matrix_is_never_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SLICE_ELEMENTS", 1 << 14)
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path / "base", hidden=512, inner=2048, layers=1)))
    adapter = write_adapter(tmp_path / "adapter", checkpoint, ["up_proj", "down_proj"], r=2, lora_alpha=2)
    read = read_mergeable(str(adapter), checkpoint)
    tracemalloc.start()
    try:
        merge(checkpoint, read, tmp_path / "merged")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Besides what reading its 512 tokens takes; the matrices have 2 MB each, and 4 MB in f32.
    assert peak < 1.5e6


@pytest.mark.parametrize("worst", [math.nan, 1e38])
def test_a_sum_that_is_no_number_is_refused(tmp_path: Path, worst: float) -> None:
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path / "base", dtype="F16")))
    adapter = write_adapter(tmp_path / "adapter", checkpoint, ["q_proj"], r=1, lora_alpha=1, value=worst)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight gives a value that is no number or too large for F16"):
        merge(checkpoint, read_mergeable(str(adapter), checkpoint), tmp_path / "merged")


def test_the_base_is_known_by_its_name(base: Checkpoint, tmp_path: Path) -> None:
    """The last part of an id, wherever the checkpoint lies; Hugging Face's cache calls a directory by a commit."""
    adapter = write_adapter(tmp_path / "adapter", base, ["q_proj"], r=4, lora_alpha=4, base="someone/Tiny")
    read_adapter(str(adapter), base)
    snapshot = tmp_path / "models--someone--tiny/snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    for file in base.path.iterdir():
        (snapshot / file.name).symlink_to(file)
    read_adapter(str(adapter), find_checkpoint(str(snapshot)))
