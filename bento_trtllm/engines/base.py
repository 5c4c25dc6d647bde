"""The build side of an engine: prepares a checkpoint, plans, and builds files. runtime.py is the run side."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypedDict

from pydantic import JsonValue
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup, ModelTransactionPolicy
from typing_extensions import NotRequired, Self

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.safetensors import NUMPY_TYPES
from bento_trtllm.manifest import DialectName, Proof
from bento_trtllm.triton.wire import tensors as contract
from bento_trtllm.triton.wire.dialects import DIALECTS, Dialect

MODELS = Path(__file__).parents[1] / "triton_models"


class Plan(TypedDict):
    """An engine that would be built: `files` are sizes in bytes, `settings` whatever else shapes it."""

    name: str
    precision: str
    files: dict[str, int]
    settings: dict[str, JsonValue]


class ManifestPart(TypedDict):
    """An engine's part of manifest.json; manifest.py explains the fields."""

    engine: str
    precision: str
    context_length: int
    versions: dict[str, str]
    dialect: DialectName
    build: dict[str, JsonValue] | None
    options: dict[str, str]
    memory: NotRequired[dict[str, int]]


def weights_fault(checkpoint: Checkpoint, instead: str) -> str | None:
    """Why an engine that converts weights itself cannot start from these; None if it can.

    `instead` is the option that quantises the original checkpoint in a similar way.
    """
    if checkpoint.quantized:
        return f"is quantised already ({checkpoint.quantized}): pack the original checkpoint, with {instead}"
    if unknown := {tensor.dtype for tensor in checkpoint.tensors.values()} - NUMPY_TYPES.keys():
        return f"has weights of the type {', '.join(sorted(unknown))}: only BF16, F16 and F32 can be packed"
    return None


def python_model(values: Mapping[str, str]) -> ModelConfig:
    """The Triton model `tensorrt_llm` where our own Python runs the engine; `values` are its parameters.

    Triton assigns it no GPU: an engine that needs any chooses them itself.
    """
    return ModelConfig(
        name="tensorrt_llm",
        backend="python",
        max_batch_size=contract.MAX_BATCH_SIZE,
        input=contract.INPUTS,
        output=contract.OUTPUTS,
        parameters=contract.parameters(values),
        model_transaction_policy=ModelTransactionPolicy(decoupled=True),
        instance_group=[ModelInstanceGroup(count=1, kind=ModelInstanceGroup.KIND_CPU)],
    )


def python_sources(engine: str) -> list[Path]:
    """The files of such a model: the engine's own, and those that all share."""
    return sorted(path for folder in (engine, "shared") for path in (MODELS / folder).glob("*.py"))


class Build(ABC):
    """One checkpoint that an engine can run, and what is made from it. Nothing is written before `write`."""

    dialect: Dialect = DIALECTS["1.x"]
    """How the Triton models name their tensors."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @abstractmethod
    def plan(self) -> Plan:
        """What `write` would write."""

    @abstractmethod
    def write(self, directory: Path, workspace: Path) -> None:
        """Write the engine's files into an existing empty directory; `workspace` may keep finished steps.

        Raises CheckpointError for a weight that the precision cannot represent, EngineError if building fails, and
        OSError if the disk does.
        """

    def prove(self, directory: Path) -> Proof | None:
        """Compare what `write` wrote with the checkpoint; None where there is nothing here to run it on.

        May add files to the directory. Raises EngineError, in one sentence, if the engine computes something else.
        """
        return None

    @abstractmethod
    def model_config(self) -> ModelConfig:
        """The Triton model `tensorrt_llm` that runs this engine."""

    @abstractmethod
    def model_sources(self) -> list[Path]:
        """The Python files of that Triton model; none if a C++ backend runs it."""

    @abstractmethod
    def manifest_part(self) -> ManifestPart:
        """What the service, and whoever packs again, must know about the engine."""

    def launch(self) -> list[list[str]] | None:
        """What would be started, one command per rank; None if it is just a tritonserver."""
        return None


class Engine(ABC):
    """One engine with its options."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        """Make it with the given options; None means not given. Raises EngineError for invalid ones."""

    def check_machine(self) -> None:
        """Raise EngineError if the engine cannot be built here, before the checkpoint is looked at."""
        return

    @abstractmethod
    def prepare(self, checkpoint: Checkpoint) -> Build:
        """The build of a checkpoint.

        Raises CheckpointError for one that this engine cannot run, or would run wrongly, and EngineError for options
        that do not fit it.
        """

    def serve_command(self, tag: str) -> str:
        """The command that serves the pack."""
        return f"scripts/serve --model {tag}"
