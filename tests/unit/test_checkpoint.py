"""Reading checkpoints: what is read, and the one sentence that each fault gets."""

import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.architectures import ARCHITECTURES
from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.checkpoint.architectures.llama import LlamaConfig
from bento_trtllm.checkpoint.architectures.smollm3 import SmolLM3Config
from bento_trtllm.checkpoint.checkpoint import read_checkpoint
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from bento_trtllm.engines.base import Engine
from bento_trtllm.engines.openvino import engine as openvino
from bento_trtllm.engines.openvino import reference, rotary
from bento_trtllm.engines.pytorch import engine as pytorch
from bento_trtllm.engines.tensorrt import build
from bento_trtllm.errors import CheckpointError, EngineError
from tests.support.checkpoints import encode, write_checkpoint, write_safetensors
from tests.support.llamas import CONFIGS, llama


def edit(path: Path, **keys: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    data = json.loads(path.read_text("utf-8")) | keys
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), "utf-8")


def test_reads_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path / "Tiny")))
    config = checkpoint.config
    assert (config.head_dim, config.rope_theta, config.rope_type) == (16, 500000.0, "default")
    assert checkpoint.tensors["model.layers.1.self_attn.k_proj.weight"].shape == (32, 64)
    matrices = 2 * 512 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
    assert checkpoint.parameters == matrices + 5 * 64
    assert checkpoint.nbytes == 2 * checkpoint.parameters
    assert (checkpoint.dtype, checkpoint.name, checkpoint.revision) == ("BF16", "Tiny", None)
    assert (checkpoint.bos_id, checkpoint.eos_ids) == (480, (489, 481))


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    one = find_checkpoint(str(write_checkpoint(tmp_path / "one")))
    many = find_checkpoint(str(write_checkpoint(tmp_path / "many", shards=3)))
    assert len({tensor.shard for tensor in many.tensors.values()}) == 3
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor.open(), many.tensors[name].open())


def test_checksum_follows_the_content_alone(tmp_path: Path) -> None:
    first = write_checkpoint(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    (tmp_path / "second" / "README.md").write_text("not a part of it")
    checksum = find_checkpoint(str(first)).checksum
    assert len(checksum) == 64
    assert find_checkpoint(str(tmp_path / "second")).checksum == checksum
    write_checkpoint(tmp_path / "second", seed=1)
    assert find_checkpoint(str(tmp_path / "second")).checksum != checksum


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 128,
}


@pytest.mark.parametrize(
    ("keys", "theta", "kind"),
    [
        ({}, 10000.0, "default"),
        ({"rope_theta": 500000.0, "rope_scaling": None}, 500000.0, "default"),
        ({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}, 500000.0, "default"),
        (
            {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            500000.0,
            "llama3",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 10000.0, "linear"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 32.0}}, 5e5, "llama3"),
    ],
)
def test_rope_of_transformers_4_and_5(keys: dict[str, Any], theta: float, kind: str) -> None:
    config = LlamaConfig.model_validate(LLAMA | keys)
    assert (config.rope_theta, config.rope_type) == (theta, kind)
    assert (config.num_key_value_heads, config.head_dim, config.tie_word_embeddings) == (4, 16, False)


@pytest.mark.parametrize(
    ("keys", "turned"),
    [
        ({}, [True, True, True, False, True, True, True, False]),
        ({"no_rope_layer_interval": 3}, [True, True, False, True, True, False, True, True]),
        ({"no_rope_layer_interval": 3, "no_rope_layers": [0, 1] * 4}, [False, True] * 4),
    ],
)
def test_which_layers_of_smollm3_are_turned(keys: dict[str, Any], turned: list[bool]) -> None:
    """As transformers' SmolLM3Config (5.24) fills in its no_rope_layers."""
    own = {"architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 8}
    config = SmolLM3Config.model_validate(LLAMA | own | keys)
    assert [config.is_turned(layer) for layer in range(8)] == turned


def remove(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).unlink()


def truncate(name: str, size: int) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:size])


def config(**keys: Any) -> Callable[[Path], object]:
    return lambda path: edit(path / "config.json", **keys)


def generation(**keys: Any) -> Callable[[Path], object]:
    return lambda path: edit(path / "generation_config.json", **keys)


SHARD = "model-00002-of-00003.safetensors"

FAULTS = {
    "no config": (remove("config.json"), "has no config.json: it is not a Hugging Face checkpoint"),
    "bad config": (truncate("config.json", 40), "is not valid JSON"),
    "architecture": (
        config(architectures=["YiForCausalLM"]),
        "is of the architecture YiForCausalLM: only LlamaForCausalLM, .*, SmolLM3ForCausalLM can be packed",
    ),
    "no size": (config(hidden_size=None), "config.json cannot be used: hidden_size: Field required"),
    "heads": (config(num_key_value_heads=3), "num_attention_heads is not a multiple of num_key_value_heads"),
    "no tokenizer": (remove("tokenizer.json"), "has no tokenizer.json"),
    "missing shard": (remove(SHARD), f"lacks 1 of the 3 shards .*: {SHARD}; download"),
    "cut shard": (truncate(SHARD, 5000), f"{SHARD} is cut short: 5,000 bytes of at least"),
    "cut header": (truncate(SHARD, 100), f"{SHARD} is cut short: 100 bytes of at least"),
    "empty shard": (truncate(SHARD, 0), f"{SHARD} is cut short: 0 bytes; copy or download it again"),
    "no weights": (remove("model.safetensors.index.json"), "has no model.safetensors and no .* there: none"),
    "bad index": (truncate("model.safetensors.index.json", 30), "is not an index of shards"),
    "more layers": (
        config(num_hidden_layers=3),
        "lacks the tensor model.layers.2.*and 8 more that config.json",
    ),
    "other shape": (config(vocab_size=600), r"embed_tokens.weight has the shape \[512, 64\].*\[600, 64\]"),
    "no end": (
        lambda path: (
            config(eos_token_id=None)(path),
            generation(eos_token_id=None)(path),
            (path / "tokenizer_config.json").write_text("{}"),
        ),
        "names no eos_token_id",
    ),
    "end outside": (generation(eos_token_id=512), "the token 512 is outside the vocabulary of 512 tokens"),
    "end of no type": (
        generation(eos_token_id="</s>"),
        "generation_config.json cannot be used: eos_token_id",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_checkpoint(fault: str, tmp_path: Path) -> None:
    damage, message = FAULTS[fault]
    path = write_checkpoint(tmp_path / "tiny", shards=3)
    damage(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        find_checkpoint(str(path))
    assert "\n" not in str(caught.value)


def test_shard_outside_the_directory_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny", shards=3)
    index = path / "model.safetensors.index.json"
    edit(index, weight_map={"model.norm.weight": "../../secret.safetensors"})
    with pytest.raises(CheckpointError, match="names a shard outside its directory"):
        find_checkpoint(str(path))


def test_pickled_weights_are_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"other weights there: pytorch_model\.bin"):
        find_checkpoint(str(path))


@pytest.mark.parametrize("argument", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "nowhere", "a/b/c"])
def test_no_such_directory(argument: str) -> None:
    with pytest.raises(CheckpointError, match=f"^no such directory: {argument} "):
        find_checkpoint(argument)


def test_a_file_and_a_needless_revision(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="is a file"):
        find_checkpoint(str(path / "config.json"))
    with pytest.raises(CheckpointError, match="--revision goes with a Hugging Face id"):
        find_checkpoint(str(path), "main")


def written(architecture: str, context: int = 2048, **keys: Any) -> Callable[[Path], Path]:
    """Write a checkpoint with the tensors of an architecture."""
    keys |= {"architectures": [architecture]}
    return lambda path: write_checkpoint(path, head_dim=16, context=context, config=keys)


UNFIT = {
    "half of llama3's rope": (
        config(rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        "scales its rotary embedding by llama3, and config.json lacks one of low_freq_factor",
    ),
    "a factor left out": (config(rope_scaling={"type": "linear"}), "by linear, and config.json names no factor"),
    "yarn": (config(rope_scaling={"type": "yarn", "factor": 4.0}), "by yarn: only linear and llama3 can be packed"),
    "a sliding window": (
        config(architectures=["MistralForCausalLM"], sliding_window=512),
        "has a sliding window of 512 tokens, which cannot be packed for OpenVINO",
    ),
    "a window a token short": (
        written("MistralForCausalLM", sliding_window=2047),
        "has a sliding window of 2,047 tokens",
    ),
    # transformers' MistralConfig (5.24) has 4096 then, as Mistral 0.1 has it.
    "an unnamed window": (written("MistralForCausalLM", context=8192), "has a sliding window of 4,096 tokens"),
    **{
        f"a sliding window of {name}": (
            written(f"{name}ForCausalLM", use_sliding_window=True, sliding_window=512),
            "has a sliding window of 512 tokens",
        )
        for name in ("Qwen2", "Qwen3", "SmolLM3")
    },
    "layers without a place": (
        written("SmolLM3ForCausalLM", no_rope_layers=[1]),
        "config.json cannot be used: no_rope_layers has fewer entries than num_hidden_layers",
    ),
    "activation": (config(hidden_act="gelu"), "has the activation gelu"),
    "quantised": (config(quantization_config={"quant_method": "fp8"}), r"is quantised already \(fp8\)"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_the_openvino_engine_refuses(case: str, tmp_path: Path) -> None:
    change, message = UNFIT[case]
    path = write_checkpoint(tmp_path / "tiny")
    change(path)
    with pytest.raises(CheckpointError, match=message):
        make_engine("openvino").prepare(find_checkpoint(str(path)))


HARMLESS = {
    "as long as the context": written("MistralForCausalLM", sliding_window=2048),
    "longer": written("MistralForCausalLM", sliding_window=4000),
    "unnamed": written("MistralForCausalLM", context=4096),
    "Qwen2's": written("Qwen2ForCausalLM", use_sliding_window=True, sliding_window=2048),
}


@pytest.mark.parametrize("window", HARMLESS)
def test_windows_that_hide_nothing_are_packed(window: str, tmp_path: Path) -> None:
    """A token sees as many as the window has, itself among them (transformers 5.24, masking_utils.py)."""
    path = HARMLESS[window](tmp_path / "tiny")
    make_engine("openvino").prepare(find_checkpoint(str(path)))


@pytest.mark.parametrize("name", CONFIGS)
def test_published_llamas_fit(name: str) -> None:
    checkpoint, published = llama(name), CONFIGS[name]
    assert openvino._fault(checkpoint) is None
    found = rotary.frequencies(checkpoint.config)
    np.testing.assert_allclose(found, reference.frequencies(checkpoint.config), rtol=1e-6)
    # By hand, for a size or factor that is read wrongly: the fastest is never scaled, and the slowest always.
    dim = published["hidden_size"] // published["num_attention_heads"]
    factor = (published["rope_scaling"] or {"factor": 1})["factor"]
    slowest = published["rope_theta"] ** (2 / dim - 1) / factor
    np.testing.assert_allclose([len(found), found[0], found[-1]], [dim // 2, 1, slowest], rtol=1e-6)


ENGINES: dict[str, tuple[Callable[[], Engine], str]] = {
    "openvino": (lambda: make_engine("openvino"), "pack the original checkpoint, with --precision"),
    "tensorrt": (
        lambda: make_engine("tensorrt", gpu="H100"),
        "pack the original checkpoint, with --quantization",
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8"])
def test_quantised_weights_are_refused(dtype: str, engine: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny")
    shapes = find_checkpoint(str(path)).config.shapes()
    bytes_of = {name: (dtype, np.zeros(shape, np.uint8)) for name, shape in shapes.items()}
    write_safetensors(path / "model.safetensors", bytes_of)
    make, way_out = ENGINES[engine]
    with pytest.raises(CheckpointError) as caught:
        make().prepare(find_checkpoint(str(path)))
    assert f"is quantised already (weights of the type {dtype}): {way_out}" in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["F64", "I64"])
def test_other_weights_are_refused(dtype: str, engine: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny")
    shapes = find_checkpoint(str(path)).config.shapes()
    write_safetensors(path / "model.safetensors", {name: (dtype, np.zeros(s, np.int64)) for name, s in shapes.items()})
    with pytest.raises(CheckpointError, match=f"weights of the type {dtype}: only BF16, F16 and F32"):
        ENGINES[engine][0]().prepare(find_checkpoint(str(path)))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_modelopt_quantised_is_refused(engine: str, tmp_path: Path) -> None:
    """Its file alone tells it, where the weights look as usual: FP8 ones in BF16, say."""
    path = write_checkpoint(tmp_path / "tiny")
    (path / prequantized.FILE).write_text('{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}')
    make, way_out = ENGINES[engine]
    with pytest.raises(CheckpointError) as caught:
        make().prepare(find_checkpoint(str(path)))
    assert f"is quantised already (FP8, says hf_quant_config.json): {way_out}" in str(caught.value)
    (path / prequantized.FILE).write_text('{"quantization": {"quant_algo": null}}')
    make().prepare(find_checkpoint(str(path)))
    (path / prequantized.FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"hf_quant_config\.json is not valid JSON"):
        find_checkpoint(str(path))


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_packed_by_twos_are_refused(engine: str, tmp_path: Path) -> None:
    """NVFP4 is U8 with two values a byte."""
    path = write_checkpoint(tmp_path / "tiny")
    shapes = find_checkpoint(str(path)).config.shapes()
    halves = {name: (*shape[:-1], shape[-1] // 2) if "proj" in name else shape for name, shape in shapes.items()}
    write_safetensors(path / "model.safetensors", {name: ("U8", np.zeros(s, np.uint8)) for name, s in halves.items()})
    (path / prequantized.FILE).write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    found = find_checkpoint(str(path))
    assert found.parameters == sum(map(prod, shapes.values()))
    with pytest.raises(CheckpointError, match=r"NVFP4, says hf_quant_config.json\): pack the original"):
        ENGINES[engine][0]().prepare(found)
    thirds = {name: (*shape[:-1], shape[-1] // 3) if "proj" in name else shape for name, shape in shapes.items()}
    write_safetensors(path / "model.safetensors", {name: ("U8", np.zeros(s, np.uint8)) for name, s in thirds.items()})
    with pytest.raises(CheckpointError, match=r"NVFP4, says hf_quant_config.json: pack the original"):
        find_checkpoint(str(path))


def test_unknown_precision() -> None:
    with pytest.raises(EngineError, match="precision: Input should be 'int8', 'int4', 'f16', 'bf16' or 'f32'"):
        make_engine("openvino", precision="q8_0")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"type": "BPE", "vocab": {"a": 512}, "merges": []},
            "id 512, but the model's vocabulary has 512",
        ),
        ({"vocab": 3}, "cannot be read as a tokenizer"),
    ],
)
def test_unfit_tokenizers(model: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny")
    edit(path / "tokenizer.json", model=model, added_tokens=[])
    with pytest.raises(CheckpointError, match=message):
        make_engine("openvino").prepare(find_checkpoint(str(path)))


def test_other_dtypes_are_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "tiny", dtype="F16")
    assert read_checkpoint(path, "tiny").dtype == "F16"
    assert encode(np.array([1.0, -2.5], np.float32), "BF16").tolist() == [0x3F80, 0xC020]


class OtherLayers(DecoderConfig):
    """An architecture that none of the engines has a network for."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return LlamaConfig.shapes(LlamaConfig.model_validate(self.model_dump()))


def test_another_architecture_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one with each engine for GPUs; the CPU's runs all that have Llama's layers."""
    path = write_checkpoint(tmp_path / "tiny", hidden=128, inner=256)
    edit(path / "config.json", architectures=["YiForCausalLM"])
    with pytest.raises(CheckpointError, match="is of the architecture YiForCausalLM: only LlamaForCausalLM"):
        find_checkpoint(str(path))
    makes = {**ENGINES, "pytorch": (lambda: make_engine("pytorch", gpu="H100"), "")}
    monkeypatch.setitem(ARCHITECTURES, "YiForCausalLM", f"{__name__}:OtherLayers")
    for make, _ in makes.values():
        with pytest.raises(CheckpointError, match="is of the architecture YiForCausalLM, which"):
            make().prepare(find_checkpoint(str(path)))
    monkeypatch.setitem(ARCHITECTURES, "YiForCausalLM", ARCHITECTURES["LlamaForCausalLM"])
    monkeypatch.setitem(build.MODELS, "YiForCausalLM", build.MODELS["LlamaForCausalLM"])
    monkeypatch.setattr(pytorch, "ARCHITECTURES", (*pytorch.ARCHITECTURES, "YiForCausalLM"))
    for make, _ in makes.values():
        assert make().prepare(find_checkpoint(str(path))).plan()["files"]


def test_ends_are_those_of_all_files(tmp_path: Path) -> None:
    """Whatever one of them leaves out: else an answer runs to its limit."""
    path = write_checkpoint(tmp_path / "tiny")
    start, text, turn = 480, 481, 489
    generation(eos_token_id=text)(path)
    assert read_checkpoint(path, "tiny").eos_ids == (turn, text)
    for own in (config, generation):
        own(eos_token_id=None)(path)
    assert read_checkpoint(path, "tiny").eos_ids == (turn,)
    config(eos_token_id=[start, text])(path)
    assert read_checkpoint(path, "tiny").eos_ids == (turn, start, text)
