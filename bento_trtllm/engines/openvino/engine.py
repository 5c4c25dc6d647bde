"""The OpenVINO engine: a GGUF file that OpenVINO GenAI's ContinuousBatchingPipeline loads on any CPU."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.base import Engine, Plan, weights_fault
from bento_trtllm.engines.openvino.gguf import convert, write_gguf
from bento_trtllm.engines.openvino.vocabulary import Vocabulary, read_vocabulary
from bento_trtllm.errors import CheckpointError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

FILE = "model.gguf"
Q8_0_BLOCK = 32
MODELS = Path(__file__).parents[2] / "triton_models"


class OpenVINOEngine(Engine):
    """Writes `model.gguf`. q8_0 halves its size and memory, at a small loss of quality."""

    name = "openvino"
    precisions = ("f16", "q8_0")

    def check(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        if config.rope_type != "default":
            # The reader ignores rope_freqs.weight without a word: tokens go wrong from the second on.
            raise CheckpointError(
                f"{checkpoint.source} scales its rotary embedding ({config.rope_type}, as Llama 3.1, 3.2 and "
                "3.3 do), which OpenVINO's GGUF reader ignores: pack meta-llama/Meta-Llama-3-8B-Instruct, or "
                "use the TensorRT engine"
            )
        if fault := self._fault(checkpoint):
            raise CheckpointError(f"{checkpoint.source} {fault}")
        self._vocabulary(checkpoint)

    def _fault(self, checkpoint: Checkpoint) -> str | None:
        config = checkpoint.config
        if config.attention_bias or config.mlp_bias:
            return "has biases in its layers, which no Llama 3 has: it cannot be packed"
        if config.hidden_act != "silu":
            return f"has the activation {config.hidden_act}: only silu can be packed"
        if fault := weights_fault(checkpoint, "--precision"):
            return fault
        if self.precision == "q8_0":
            for name, tensor in checkpoint.tensors.items():
                if len(tensor.shape) > 1 and tensor.shape[-1] % Q8_0_BLOCK:
                    return (
                        f"has rows of {tensor.shape[-1]} weights in {name}, and q8_0 takes multiples of "
                        f"{Q8_0_BLOCK}: pack with --precision f16"
                    )
        return None

    def plan(self, checkpoint: Checkpoint) -> Plan:
        tensors = convert(checkpoint, self.precision)
        return {
            "name": self.name,
            "precision": self.precision,
            "files": {FILE: sum(tensor.nbytes for tensor in tensors)},
            "settings": {"tensors": len(tensors)},
        }

    def build(self, checkpoint: Checkpoint, directory: Path) -> None:
        write_gguf(checkpoint, self._vocabulary(checkpoint), self.precision, directory / FILE)

    def model_config(self, checkpoint: Checkpoint) -> "ModelConfig":
        # Imported here: --help answers at once.
        from tritonclient.grpc import model_config_pb2 as pb  # noqa: PLC0415

        from bento_trtllm.config import EngineSettings  # noqa: PLC0415
        from bento_trtllm.triton.wire import tensors as contract  # noqa: PLC0415

        config = checkpoint.config
        values = {
            "gpt_model_path": "engine",
            "vocab_size": str(config.vocab_size),
            "context_length": str(config.max_position_embeddings),
            "kv_values_per_token": str(2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim),
            "exclude_input_in_output": "true",
            **EngineSettings().parameters(self.name),
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

    def options(self) -> dict[str, str]:
        return {"precision": self.precision}

    def model_sources(self) -> list[Path]:
        return sorted(path for folder in ("openvino", "shared") for path in (MODELS / folder).glob("*.py"))

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("openvino", "openvino-genai", "gguf")}

    def _vocabulary(self, checkpoint: Checkpoint) -> Vocabulary:
        return read_vocabulary(checkpoint.path / "tokenizer.json", checkpoint.config.vocab_size)
