"""What an engine is when it is packed: a checkpoint is prepared, planned and built into files. runtime.py runs them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypedDict

from pydantic import JsonValue
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typing_extensions import NotRequired, Self

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import NUMPY_TYPES
from bento_trtllm.manifest import DialectName
from bento_trtllm.triton.wire.dialects import DIALECTS, Dialect


class Plan(TypedDict):
    """An engine that would be built: `files` gives sizes in bytes, `settings` whatever else shapes it."""

    name: str
    precision: str
    files: dict[str, int]
    settings: dict[str, JsonValue]


class ManifestPart(TypedDict):
    """What an engine knows of manifest.json; manifest.py says what each is."""

    engine: str
    precision: str
    context_length: int
    versions: dict[str, str]
    dialect: DialectName
    build: dict[str, JsonValue] | None
    options: dict[str, str]
    memory: NotRequired[dict[str, int]]


def weights_fault(checkpoint: Checkpoint, instead: str) -> str | None:
    """Why an engine that makes its own precision cannot start from these weights; None if it can.

    `instead` is the option that does to the original checkpoint what was done to this one.
    """
    if checkpoint.quantized:
        return f"is quantised already ({checkpoint.quantized}): pack the original checkpoint, with {instead}"
    if unknown := {tensor.dtype for tensor in checkpoint.tensors.values()} - NUMPY_TYPES.keys():
        return f"has weights of the type {', '.join(sorted(unknown))}: only BF16, F16 and F32 can be packed"
    return None


class Build(ABC):
    """One checkpoint that an engine can run, and all that becomes of it. Nothing is written before `write`."""

    dialect: Dialect = DIALECTS["1.x"]
    """How the Triton models name their tensors."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @abstractmethod
    def plan(self) -> Plan:
        """What write would write."""

    @abstractmethod
    def write(self, directory: Path, workspace: Path) -> None:
        """Write the engine's files into an empty directory that exists; `workspace` may keep finished steps.

        Raises CheckpointError for a weight that the precision cannot hold, EngineError where building fails,
        and OSError where the disk does.
        """

    @abstractmethod
    def model_config(self) -> ModelConfig:
        """The Triton model `tensorrt_llm` that runs this engine."""

    @abstractmethod
    def model_sources(self) -> list[Path]:
        """The Python files of that Triton model; none where a C++ backend runs it."""

    @abstractmethod
    def manifest_part(self) -> ManifestPart:
        """What the service, and whoever packs again, must know of the engine."""

    def launch(self) -> list[list[str]] | None:
        """What would be started, a command a rank; None where that is nothing but a tritonserver."""
        return None


class Engine(ABC):
    """One engine with its options."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        """With the options that are given; None is not given. Raises EngineError for what cannot be."""

    def check_machine(self) -> None:
        """Raise EngineError if the engine cannot be built here; nothing to be asked of the checkpoint yet."""
        return

    @abstractmethod
    def prepare(self, checkpoint: Checkpoint) -> Build:
        """What becomes of a checkpoint.

        Raises CheckpointError for what this engine cannot run, or would run wrongly, EngineError for options that
        do not fit it.
        """

    def serve_command(self, tag: str) -> str:
        """What to type to serve the packed model."""
        return f"scripts/serve --model {tag}"
