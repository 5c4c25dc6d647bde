"""The OpenVINO engine: an IR that OpenVINO GenAI's ContinuousBatchingPipeline loads on any CPU."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig
from typing_extensions import Self

from bento_trtllm.checkpoint.architectures.llama import LlamaConfig
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.config import EngineSettings
from bento_trtllm.engines.base import Build, Engine, ManifestPart, Plan, python_model, python_sources, weights_fault
from bento_trtllm.engines.openvino.detokenizer import read_vocabulary, write_detokenizer
from bento_trtllm.engines.openvino.fastest import default_precisions, defaults
from bento_trtllm.engines.openvino.ir import WEIGHTS, write_ir
from bento_trtllm.engines.openvino.options import OpenVINOOptions, Precision
from bento_trtllm.engines.openvino.proof import prove
from bento_trtllm.engines.openvino.readback import check_weights
from bento_trtllm.engines.openvino.rotary import frequencies
from bento_trtllm.engines.openvino.runtime import tokens_beside
from bento_trtllm.engines.openvino.trial import measure, write_cases
from bento_trtllm.engines.openvino.weights import stored
from bento_trtllm.errors import CheckpointError
from bento_trtllm.manifest import Proof
from bento_trtllm.triton_models.openvino.kv_cache import WORKING, cached_tokens, token_bytes
from bento_trtllm.triton_models.openvino.precisions import Precisions
from bento_trtllm.triton_models.shared.cores import groups
from bento_trtllm.triton_models.shared.memory import free_memory

NAME = "openvino"


class OpenVINOEngine(Engine):
    """Writes openvino_model.xml and .bin, and the vocabulary beside them."""

    name = NAME

    def __init__(self, options: OpenVINOOptions) -> None:
        self.options = options

    @classmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        return cls(OpenVINOOptions.make(**values))

    def prepare(self, checkpoint: Checkpoint) -> "OpenVINOBuild":
        if fault := _fault(checkpoint):
            raise CheckpointError(f"{checkpoint.source} {fault}")
        vocabulary = read_vocabulary(checkpoint.path / "tokenizer.json", checkpoint.config.vocab_size)
        return OpenVINOBuild(checkpoint, self.options.precision, vocabulary)


def _fault(checkpoint: Checkpoint) -> str | None:
    config = checkpoint.config
    # network.py builds Llama's layers, and reads from the configuration how an architecture's own differ.
    if not isinstance(config, LlamaConfig):
        return f"is of the architecture {config.architecture}, which cannot be packed for OpenVINO"
    if config.hidden_act != "silu":
        return f"has the activation {config.hidden_act}: only silu can be packed"
    if config.window is not None and config.window < config.max_position_embeddings:
        return f"has a sliding window of {config.window:,} tokens, which cannot be packed for OpenVINO"
    try:
        frequencies(config)
    except ValueError as error:
        return f"scales its rotary embedding {error}"
    return weights_fault(checkpoint, "--precision")


class OpenVINOBuild(Build):
    """One checkpoint at one precision."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision, vocabulary: list[bytes]) -> None:
        super().__init__(checkpoint)
        self._precision, self._vocabulary = precision, vocabulary
        self._weights = stored(checkpoint, precision)

    def plan(self) -> Plan:
        memory, free = self._memory(), free_memory(groups("memory"))
        context, token = self.checkpoint.config.max_position_embeddings, memory["token"]
        # As it will be served, by runtime.py; where that refuses it, how much of a context there is room for.
        tokens = min(
            cached_tokens(free, token, context, EngineSettings().max_num_sequences),
            tokens_beside(memory["loaded"], free, token),
        )
        return {
            "name": NAME,
            "precision": self._precision,
            "files": {WEIGHTS: memory["weights"]},
            "settings": {"tensors": len(self._weights), "memory": {**memory, "cached_tokens": tokens}},
        }

    def _memory(self) -> dict[str, int]:
        """As Manifest.memory has it."""
        weights = sum(each.nbytes for each in self._weights)
        of_a_token = token_bytes(self._values_per_token, self._precisions.kv_cache)
        return {"weights": weights, "loaded": weights + WORKING, "token": of_a_token}

    @property
    def _precisions(self) -> Precisions:
        """As it is served where no setting says otherwise."""
        return default_precisions(self._precision)

    @property
    def _values_per_token(self) -> int:
        """Of the KV cache."""
        config = self.checkpoint.config
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim

    def write(self, directory: Path, workspace: Path) -> None:
        write_detokenizer(self.checkpoint, self._vocabulary, directory)
        write_ir(self.checkpoint, self._weights, directory)

    def prove(self, directory: Path) -> Proof:
        check_weights(self._weights, directory)
        write_cases(self.checkpoint, self._precision, directory)
        return prove(directory, self._precision, self._precisions, measure)

    def model_config(self) -> ModelConfig:
        config = self.checkpoint.config
        values = {
            "gpt_model_path": "engine",
            "vocab_size": str(config.vocab_size),
            "context_length": str(config.max_position_embeddings),
            "kv_values_per_token": str(self._values_per_token),
            "exclude_input_in_output": "true",
            **defaults(self._precision),
        }
        return python_model(values)

    def model_sources(self) -> list[Path]:
        return python_sources(NAME)

    def manifest_part(self) -> ManifestPart:
        return {
            "engine": NAME,
            "precision": self._precision,
            "context_length": self.checkpoint.config.max_position_embeddings,
            "versions": {name: version(name) for name in ("openvino", "openvino-genai")},
            "dialect": self.dialect.name,
            "build": None,
            "options": {"precision": self._precision},
            "memory": self._memory(),
        }
