"""What an engine is: a way to build a checkpoint into files, and the Triton model that runs them."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

from pydantic import JsonValue

from bento_trtllm.checkpoint import Checkpoint
from bento_trtllm.errors import EngineError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig


class Plan(TypedDict):
    """An engine that would be built: `files` gives sizes in bytes, `settings` whatever else shapes it."""

    name: str
    precision: str
    files: dict[str, int]
    settings: dict[str, JsonValue]


class Engine(ABC):
    """One engine at one precision. The first of `precisions` is the default."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, precision: str | None = None) -> None:
        if precision is not None and precision not in self.precisions:
            offered = ", ".join(self.precisions)
            raise EngineError(f"the engine {self.name} has no precision {precision}: choose from {offered}")
        self.precision = precision or self.precisions[0]

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

    @abstractmethod
    def model_sources(self) -> list[Path]:
        """The Python files of that Triton model; none where a C++ backend runs it."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The libraries that build and run the engine, by distribution name."""
