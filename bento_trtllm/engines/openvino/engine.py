"""The OpenVINO engine: a GGUF file that OpenVINO GenAI's ContinuousBatchingPipeline loads on any CPU."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb
from typing_extensions import Self

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.config import EngineSettings
from bento_trtllm.engines.base import Build, Engine, ManifestPart, Plan, weights_fault
from bento_trtllm.engines.openvino.gguf import FAMILIES, convert, write_gguf
from bento_trtllm.engines.openvino.options import OpenVINOOptions
from bento_trtllm.engines.openvino.vocabulary import Vocabulary, read_vocabulary
from bento_trtllm.errors import CheckpointError
from bento_trtllm.triton.wire import tensors as contract

NAME = "openvino"
FILE = "model.gguf"
Q8_0_BLOCK = 32
MODELS = Path(__file__).parents[2] / "triton_models"


class OpenVINOEngine(Engine):
    """Writes `model.gguf`. q8_0 halves its size and memory, at a small loss of quality."""

    name = NAME

    def __init__(self, options: OpenVINOOptions) -> None:
        self.options = options

    @classmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        return cls(OpenVINOOptions.make(**values))

    def prepare(self, checkpoint: Checkpoint) -> "OpenVINOBuild":
        config, precision = checkpoint.config, self.options.precision
        if config.rope_type != "default":
            # The reader ignores rope_freqs.weight without a word: tokens go wrong from the second on.
            raise CheckpointError(
                f"{checkpoint.source} scales its rotary embedding ({config.rope_type}, as Llama 3.1, 3.2 and "
                "3.3 do), which OpenVINO's GGUF reader ignores: pack meta-llama/Meta-Llama-3-8B-Instruct, or "
                "use the TensorRT engine"
            )
        if fault := _fault(checkpoint, precision):
            raise CheckpointError(f"{checkpoint.source} {fault}")
        vocabulary = read_vocabulary(checkpoint.path / "tokenizer.json", config.vocab_size)
        return OpenVINOBuild(checkpoint, precision, vocabulary)


def _fault(checkpoint: Checkpoint, precision: str) -> str | None:
    config = checkpoint.config
    if config.architecture not in FAMILIES:
        return f"is of the architecture {config.architecture}, which cannot be packed for OpenVINO"
    if config.attention_bias or config.mlp_bias:
        return "has biases in its layers, which no Llama 3 has: it cannot be packed"
    if config.hidden_act != "silu":
        return f"has the activation {config.hidden_act}: only silu can be packed"
    if fault := weights_fault(checkpoint, "--precision"):
        return fault
    if precision == "q8_0":
        for name, tensor in checkpoint.tensors.items():
            if len(tensor.shape) > 1 and tensor.shape[-1] % Q8_0_BLOCK:
                return (
                    f"has rows of {tensor.shape[-1]} weights in {name}, and q8_0 takes multiples of "
                    f"{Q8_0_BLOCK}: pack with --precision f16"
                )
    return None


class OpenVINOBuild(Build):
    """One checkpoint at one precision."""

    def __init__(self, checkpoint: Checkpoint, precision: str, vocabulary: Vocabulary) -> None:
        super().__init__(checkpoint)
        self._precision, self._vocabulary = precision, vocabulary

    def plan(self) -> Plan:
        tensors = convert(self.checkpoint, self._precision)
        return {
            "name": NAME,
            "precision": self._precision,
            "files": {FILE: sum(tensor.nbytes for tensor in tensors)},
            "settings": {"tensors": len(tensors)},
        }

    def write(self, directory: Path, workspace: Path) -> None:
        write_gguf(self.checkpoint, self._vocabulary, self._precision, directory / FILE)

    def model_config(self) -> pb.ModelConfig:
        config = self.checkpoint.config
        values = {
            "gpt_model_path": "engine",
            "vocab_size": str(config.vocab_size),
            "context_length": str(config.max_position_embeddings),
            "kv_values_per_token": str(2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim),
            "exclude_input_in_output": "true",
            **EngineSettings().parameters(NAME),
        }
        return pb.ModelConfig(
            name="tensorrt_llm",
            backend="python",
            max_batch_size=contract.MAX_BATCH_SIZE,
            input=contract.INPUTS,
            output=contract.OUTPUTS,
            parameters=contract.parameters(values),
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=True),
            instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
        )

    def model_sources(self) -> list[Path]:
        return sorted(path for folder in ("openvino", "shared") for path in (MODELS / folder).glob("*.py"))

    def manifest_part(self) -> ManifestPart:
        return {
            "engine": NAME,
            "precision": self._precision,
            "context_length": self.checkpoint.config.max_position_embeddings,
            "versions": {name: version(name) for name in ("openvino", "openvino-genai", "gguf")},
            "dialect": self.dialect.name,
            "build": None,
            "options": {"precision": self._precision},
        }
