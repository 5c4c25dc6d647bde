"""The generated repository against the tensors of NVIDIA's own, TensorRT-LLM 1.x."""

import json
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from bento_trtllm.packing.repository import write_repository
from bento_trtllm.triton.process.repository import place_repository, read_config
from bento_trtllm.triton_models.shared.parameters import OUTPUTS, OWN, PARAMETERS

MODELS = ("preprocessing", "tensorrt_llm", "postprocessing", "ensemble")
UPSTREAM = json.loads((Path(__file__).parent / "inflight_batcher_llm-1.3.0rc3.json").read_text())["models"]
OWN_TENSORS = {row.tensor for row in (*PARAMETERS, *OUTPUTS) if row.since == OWN}
DEMO = Path(__file__).parents[2] / "assets" / "demo-llama"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packed")
    (directory / "repository").mkdir()
    write_repository(directory / "repository", make_engine("openvino").prepare(find_checkpoint(str(DEMO))))
    return directory


@pytest.fixture(scope="module")
def configs(packed: Path) -> dict[str, pb.ModelConfig]:
    return {name: read_config(packed / "repository" / name) for name in MODELS}


def theirs(model: str, side: str) -> dict[str, dict[str, Any]]:
    return {tensor["name"]: tensor for tensor in UPSTREAM[model][side]}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("side", ["input", "output"])
def test_tensors_are_upstreams(configs: dict[str, pb.ModelConfig], model: str, side: str) -> None:
    ours = getattr(configs[model], side)
    assert ours, "a model without tensors"
    for tensor in ours:
        if tensor.name in OWN_TENSORS:
            assert model == "tensorrt_llm" and tensor.name not in theirs(model, side)
            continue
        upstream = theirs(model, side)[tensor.name]  # a KeyError is a tensor that upstream does not have
        assert pb.DataType.Name(tensor.data_type) == upstream["data_type"], tensor.name
        assert list(tensor.dims) == upstream["dims"], tensor.name
        if side == "input" and model == "tensorrt_llm":
            assert tensor.HasField("reshape") == ("reshape" in upstream), tensor.name
            assert tensor.allow_ragged_batch == upstream.get("allow_ragged_batch", False), tensor.name


@pytest.mark.parametrize("model", MODELS)
def test_every_required_input_of_upstream_is_there(configs: dict[str, pb.ModelConfig], model: str) -> None:
    required = {name for name, tensor in theirs(model, "input").items() if not tensor.get("optional")}
    assert required <= {tensor.name for tensor in configs[model].input}
    # A client that leaves out what upstream lets it leave out must not be refused here.
    assert {tensor.name for tensor in configs[model].input if not tensor.optional} <= required


def test_ensemble_maps_agree_with_upstream(configs: dict[str, pb.ModelConfig]) -> None:
    upstream = {step["model"]: step for step in UPSTREAM["ensemble"]["steps"]}
    for step in configs["ensemble"].ensemble_scheduling.step:
        for side, ours in (("input_map", step.input_map), ("output_map", step.output_map)):
            assert dict(ours).items() <= upstream[step.model_name][side].items()


def test_ensemble_is_wired(configs: dict[str, pb.ModelConfig]) -> None:
    """Each tensor of the ensemble is made once, with the type that its reader takes; no required one is missing."""
    made = {tensor.name: tensor.data_type for tensor in configs["ensemble"].input}
    for step in configs["ensemble"].ensemble_scheduling.step:
        model = configs[step.model_name]
        inputs = {tensor.name: tensor for tensor in model.input}
        outputs = {tensor.name: tensor for tensor in model.output}
        for name, source in step.input_map.items():
            assert inputs[name].data_type == made[source], f"{step.model_name}.{name}"
        assert {name for name, tensor in inputs.items() if not tensor.optional} <= set(step.input_map)
        for name, target in step.output_map.items():
            assert target not in made
            made[target] = outputs[name].data_type
    for tensor in configs["ensemble"].output:
        assert made[tensor.name] == tensor.data_type


def test_text_models_have_one_instance(configs: dict[str, pb.ModelConfig]) -> None:
    for name in ("preprocessing", "postprocessing"):
        (group,) = configs[name].instance_group
        assert group.count == 1


def test_packed_repository_names_no_absolute_path(packed: Path) -> None:
    for config in (packed / "repository").glob("*/config.pbtxt"):
        assert '"/' not in config.read_text()


def test_placed_repository_has_absolute_paths_and_overrides(packed: Path, tmp_path: Path) -> None:
    placed = place_repository(packed, tmp_path, {"threads": "3"})
    config = read_config(placed / "tensorrt_llm")
    assert config.parameters["threads"].string_value == "3"
    assert config.parameters["gpt_model_path"].string_value == str(packed / "engine")
    assert read_config(placed / "preprocessing").parameters["tokenizer_dir"].string_value == str(packed / "tokenizer")
    assert (placed / "tensorrt_llm" / "1" / "model.py").is_file()
    assert read_config(packed / "repository" / "tensorrt_llm").parameters["threads"].string_value == "0"


def test_a_repository_without_text_has_the_engine_alone(packed: Path, tmp_path: Path) -> None:
    placed = place_repository(packed, tmp_path, {}, text=False)
    assert [path.name for path in placed.iterdir()] == ["tensorrt_llm"]
