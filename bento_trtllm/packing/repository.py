"""Triton's model repository as it is packed; triton/process/repository.py prepares it for each launch.

It has the four models of NVIDIA's inflight_batcher_llm: the service exchanges token ids with `tensorrt_llm`; `ensemble`
(preprocessing → tensorrt_llm → postprocessing) is for other gRPC clients that send text.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.base import Build
from bento_trtllm.triton.process.repository import CONFIG
from bento_trtllm.triton.wire.tensors import (
    INPUTS,
    INT32,
    MAX_BATCH_SIZE,
    OUTPUTS,
    STRING,
    parameters,
    tensor_in,
    tensor_out,
)

MODELS = Path(__file__).parent.parent / "triton_models"
VOCABULARY = Path(__file__).parent.parent / "text" / "vocabulary.py"


def write_repository(directory: Path, build: Build) -> None:
    """Write the four models into an existing directory."""
    sources = {
        "tensorrt_llm": build.model_sources(),
        "preprocessing": [MODELS / "preprocessing" / "model.py", MODELS / "shared" / "words.py"],
        "postprocessing": [MODELS / "postprocessing" / "model.py", VOCABULARY],
    }
    for config in configurations(build):
        _write(directory, config, *sources.get(config.name, ()))


def configurations(build: Build) -> list[pb.ModelConfig]:
    """The configurations of the four models, in the dialect of the engine's release."""
    config = build.model_config()
    text = (preprocessing(build.checkpoint), postprocessing(), ensemble())
    *others, whole = map(build.dialect.adapt, text)
    return [config, *others, _without_what_the_engine_lacks(whole, {tensor.name for tensor in config.input})]


def _without_what_the_engine_lacks(whole: pb.ModelConfig, known: set[str]) -> pb.ModelConfig:
    """Remove, in place, the ensemble's inputs that the engine does not have."""
    for step in whole.ensemble_scheduling.step:
        if step.model_name == "tensorrt_llm":
            for name in set(step.input_map) - known:
                del step.input_map[name]
    used = {source for step in whole.ensemble_scheduling.step for source in step.input_map.values()}
    kept = [tensor for tensor in whole.input if tensor.name in used]
    del whole.input[:]
    whole.input.extend(kept)
    return whole


def preprocessing(checkpoint: Checkpoint) -> pb.ModelConfig:
    """Text to token ids."""
    end_id, *stop_ids = checkpoint.eos_ids or (-1,)
    return _python_model(
        "preprocessing",
        inputs=[
            tensor_in("QUERY", STRING, optional=False),
            tensor_in("REQUEST_OUTPUT_LEN", INT32, optional=False),
            tensor_in("BAD_WORDS_DICT", STRING, [-1]),
            tensor_in("STOP_WORDS_DICT", STRING, [-1]),
            tensor_in("END_ID", INT32),
            tensor_in("PAD_ID", INT32),
        ],
        outputs=[
            tensor_out("INPUT_ID", INT32, [-1]),
            tensor_out("REQUEST_INPUT_LEN", INT32),
            tensor_out("BAD_WORDS_IDS", INT32, [2, -1]),
            tensor_out("STOP_WORDS_IDS", INT32, [2, -1]),
            tensor_out("REQUEST_OUTPUT_LEN", INT32, [-1]),
            tensor_out("OUT_END_ID", INT32),
            tensor_out("OUT_PAD_ID", INT32),
        ],
        values={
            "tokenizer_dir": "tokenizer",
            "add_special_tokens": "true",
            "end_id": str(end_id),
            "stop_ids": ",".join(map(str, stop_ids)),
        },
    )


def postprocessing() -> pb.ModelConfig:
    """Token ids to bytes of text."""
    return _python_model(
        "postprocessing",
        inputs=[
            tensor_in("TOKENS_BATCH", INT32, [-1, -1], optional=False),
            tensor_in("SEQUENCE_LENGTH", INT32, [-1], optional=False),
        ],
        outputs=[tensor_out("OUTPUT", STRING, [-1])],
        values={"tokenizer_dir": "tokenizer", "skip_special_tokens": "true"},
    )


# Inputs of the ensemble that go directly to tensorrt_llm, and the names of its inputs.
_PASSED = {
    "num_return_sequences": "num_return_sequences",
    "exclude_input_in_output": "exclude_input_in_output",
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "temperature": "temperature",
    "length_penalty": "len_penalty",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "return_log_probs": "return_log_probs",
    "beam_width": "beam_width",
    "stream": "streaming",
    "guided_decoding_guide_type": "guided_decoding_guide_type",
    "guided_decoding_guide": "guided_decoding_guide",
}
_RETURNED = ("cum_log_probs", "output_log_probs", "sequence_index", "batch_index")


def ensemble() -> pb.ModelConfig:
    """preprocessing → tensorrt_llm → postprocessing."""
    types = {tensor.name: tensor.data_type for tensor in INPUTS}
    steps = [
        pb.ModelEnsembling.Step(
            model_name="preprocessing",
            model_version=-1,
            input_map={
                "QUERY": "text_input",
                "REQUEST_OUTPUT_LEN": "max_tokens",
                "BAD_WORDS_DICT": "bad_words",
                "STOP_WORDS_DICT": "stop_words",
                "END_ID": "end_id",
                "PAD_ID": "pad_id",
            },
            output_map={
                "INPUT_ID": "_INPUT_ID",
                "REQUEST_INPUT_LEN": "_REQUEST_INPUT_LEN",
                "REQUEST_OUTPUT_LEN": "_REQUEST_OUTPUT_LEN",
                "BAD_WORDS_IDS": "_BAD_WORDS_IDS",
                "STOP_WORDS_IDS": "_STOP_WORDS_IDS",
                "OUT_END_ID": "_PREPROCESSOR_END_ID",
                "OUT_PAD_ID": "_PREPROCESSOR_PAD_ID",
            },
        ),
        pb.ModelEnsembling.Step(
            model_name="tensorrt_llm",
            model_version=-1,
            input_map={
                "input_ids": "_INPUT_ID",
                "input_lengths": "_REQUEST_INPUT_LEN",
                "request_output_len": "_REQUEST_OUTPUT_LEN",
                "end_id": "_PREPROCESSOR_END_ID",
                "pad_id": "_PREPROCESSOR_PAD_ID",
                "stop_words_list": "_STOP_WORDS_IDS",
                "bad_words_list": "_BAD_WORDS_IDS",
                **{theirs: ours for ours, theirs in _PASSED.items()},
            },
            output_map={
                "output_ids": "_TOKENS_BATCH",
                "sequence_length": "_SEQUENCE_LENGTH",
                **{name: name for name in _RETURNED},
            },
        ),
        pb.ModelEnsembling.Step(
            model_name="postprocessing",
            model_version=-1,
            input_map={"TOKENS_BATCH": "_TOKENS_BATCH", "SEQUENCE_LENGTH": "_SEQUENCE_LENGTH"},
            output_map={"OUTPUT": "text_output"},
        ),
    ]
    return pb.ModelConfig(
        name="ensemble",
        platform="ensemble",
        max_batch_size=MAX_BATCH_SIZE,
        input=[
            tensor_in("text_input", STRING, optional=False),
            tensor_in("max_tokens", INT32, optional=False),
            tensor_in("bad_words", STRING, [-1]),
            tensor_in("stop_words", STRING, [-1]),
            tensor_in("end_id", INT32),
            tensor_in("pad_id", INT32),
            *(tensor_in(ours, types[theirs]) for ours, theirs in _PASSED.items()),
        ],
        output=[
            tensor_out("text_output", STRING, [-1]),
            *(tensor for tensor in OUTPUTS if tensor.name in _RETURNED),
        ],
        ensemble_scheduling=pb.ModelEnsembling(step=steps),
    )


def _python_model(
    name: str, inputs: list[pb.ModelInput], outputs: list[pb.ModelOutput], values: Mapping[str, str]
) -> pb.ModelConfig:
    return pb.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=MAX_BATCH_SIZE,
        input=inputs,
        output=outputs,
        parameters=parameters(values),
        # One instance: with several, the pieces of a stream could overtake each other.
        instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
    )


def _write(directory: Path, config: pb.ModelConfig, *sources: Path) -> None:
    version = directory / config.name / "1"
    version.mkdir(parents=True)
    for source in sources:
        shutil.copyfile(source, version / source.name)
    if not sources:
        # The model store keeps files, not empty folders, and Triton requires the version's folder.
        (version / ".keep").touch()
    (directory / config.name / CONFIG).write_text(text_format.MessageToString(config), "utf-8")
