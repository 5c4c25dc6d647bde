"""What an engine is: a way to build a checkpoint into files, and the Triton model that runs them."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

from pydantic import JsonValue

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import NUMPY_TYPES
from bento_trtllm.errors import EngineError
from bento_trtllm.triton.wire.dialects import DIALECTS, Dialect

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig


class Plan(TypedDict):
    """An engine that would be built: `files` gives sizes in bytes, `settings` whatever else shapes it."""

    name: str
    precision: str
    files: dict[str, int]
    settings: dict[str, JsonValue]


def weights_fault(checkpoint: Checkpoint, instead: str) -> str | None:
    """Why an engine that makes its own precision cannot start from these weights; None if it can.

    `instead` is the option that does to the original checkpoint what was done to this one.
    """
    if checkpoint.quantized:
        return f"is quantised already ({checkpoint.quantized}): pack the original checkpoint, with {instead}"
    if unknown := {tensor.dtype for tensor in checkpoint.tensors.values()} - NUMPY_TYPES.keys():
        return f"has weights of the type {', '.join(sorted(unknown))}: only BF16, F16 and F32 can be packed"
    return None


class Engine(ABC):
    """One engine at one precision. The first of `precisions` is the default."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    dialect: Dialect = DIALECTS["1.x"]
    """How the Triton models name their tensors."""
    gpu: ClassVar[bool] = False
    world_size: int = 1
    """Processes of Triton that one engine takes."""

    def __init__(self, precision: str | None = None) -> None:
        if precision is not None and precision not in self.precisions:
            offered = ", ".join(self.precisions)
            raise EngineError(f"the engine {self.name} has no precision {precision}: choose from {offered}")
        self.precision = precision or self.precisions[0]

    def check_machine(self) -> None:
        """Raise EngineError if the engine cannot be built here; nothing to be asked of the checkpoint yet."""
        return

    @abstractmethod
    def check(self, checkpoint: Checkpoint) -> None:
        """Raise CheckpointError for what this engine cannot run, or would run wrongly."""

    @abstractmethod
    def plan(self, checkpoint: Checkpoint) -> Plan:
        """What build would write."""

    @abstractmethod
    def build(self, checkpoint: Checkpoint, directory: Path) -> None:
        """Write the engine's files into an empty directory that exists.

        Raises CheckpointError for a weight that the precision cannot hold, EngineError where building fails,
        and OSError where the disk does.
        """

    @abstractmethod
    def model_config(self, checkpoint: Checkpoint) -> "ModelConfig":
        """The Triton model `tensorrt_llm` that runs this engine."""

    def context_length(self, checkpoint: Checkpoint) -> int:
        """Tokens that a prompt and its answer may have together."""
        return checkpoint.config.max_position_embeddings

    def describe(self, checkpoint: Checkpoint) -> dict[str, JsonValue] | None:
        """What the engine's Runtime must know of how it was built; None for one that runs anywhere."""
        return None

    def options(self) -> dict[str, str]:
        """What to give pack_model.py, besides the checkpoint, for the same again."""
        return {}

    @abstractmethod
    def model_sources(self) -> list[Path]:
        """The Python files of that Triton model; none where a C++ backend runs it."""

    def serve_command(self, tag: str) -> str:
        """What to type to serve the packed model."""
        return f"scripts/serve --model {tag}"

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The libraries that build and run the engine, by distribution name."""
