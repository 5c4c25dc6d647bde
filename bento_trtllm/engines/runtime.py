"""The run side of an engine: how it is started, and what requests must know about it."""

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bento_trtllm.config import Settings, engines_of
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest, Proof
from bento_trtllm.triton.process.launch import Launcher
from bento_trtllm.triton.process.ranks import launcher
from bento_trtllm.triton.wire.dialects import RENAMED


class Runtime(ABC):
    """One pack, and the engine that runs it."""

    gpu: ClassVar[bool] = False
    """Whether it computes on GPUs."""
    requested: ClassVar[tuple[str, ...]]
    """Outputs that every request must ask for."""
    told: ClassVar[tuple[str, ...]] = ()
    """Further ones, which it asks for where the pack has them."""
    bans_first_end_only: ClassVar[bool] = False
    """Whether `min_tokens` bans only the first end token from an answer's first tokens, rather than all of them."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @property
    def ranks(self) -> int:
        """The number of Triton processes that the engine needs."""
        return 1

    @property
    def launcher(self) -> Launcher:
        """How Triton is started for it."""
        return launcher(self.ranks)

    @property
    def renamed(self) -> Mapping[str, str]:
        """The engine's names for tensors, where they differ from the 1.x dialect."""
        return RENAMED[self.manifest.dialect]

    def check_machine(self) -> None:
        """Raise EngineError, in one sentence, if this machine cannot run the engine."""
        return

    def check_room(self, parameters: Mapping[str, str]) -> None:
        """Raise EngineError, in one sentence, where the machine's memory is too small for it, before it is started."""
        return

    def prove(self, packed: Path, parameters: Mapping[str, str], kept: Path) -> Proof | None:
        """What the pack has shown of itself on this machine with these parameters, and shows now if it has not yet.

        None where the engine has no such proof. The folder `kept` is where it is remembered, if that can be written.
        Raises EngineError, in one sentence, where the engine computes something other than its checkpoint says.
        """
        return None

    def prove_again(self, packed: Path, parameters: Mapping[str, str]) -> Proof | None:
        """The same, whatever it has shown already, for a pack with a proof."""
        return None

    def memory(self, parameters: Mapping[str, str]) -> int:
        """Bytes of the machine's memory that it takes at least; 0 where that is not known."""
        return 0

    def bounded(self, parameters: Mapping[str, str]) -> bool:
        """Whether it is told how much of a GPU's memory it may take; true for one that takes none."""
        given = [parameters.get(name) for name in ("max_tokens_in_paged_kv_cache", "kv_cache_free_gpu_mem_fraction")]
        return not self.gpu or any(value not in (None, "", "0") for value in given)

    def share(self, parameters: Mapping[str, str], engines: int) -> Mapping[str, str]:
        """The parameters with which it leaves room for the others of so many engines on this machine, at its start."""
        return parameters

    def parameters(self, settings: Settings, packed: Mapping[str, str], beside: Sequence[str] = ()) -> dict[str, str]:
        """The parameters of the Triton model `tensorrt_llm`, based on those that it was packed with.

        Raises EngineError, in one sentence, for settings that the engine must not have, or ignores, as all engines
        `beside` it do.
        """
        engine = self.manifest.engine
        if ignored := settings.ignored_by(engine, *beside):
            others = " and ".join(engines_of(ignored[0]))
            raise EngineError(
                f"the setting {ignored[0]} is for the engine {others}, and the packed model's is {engine}, which "
                "would ignore it: leave it out"
            )
        return {**packed, **self.overrides(settings)}

    def overrides(self, settings: Settings) -> dict[str, str]:
        """The parameters that settings replace: by default those that were given. Raises EngineError."""
        return settings.parameters(self.manifest.engine, given=True)

    def longest_prompt(self, parameters: Mapping[str, str]) -> int:
        """The most tokens that a prompt may have with these parameters: they leave room for one token of the answer."""
        return self.manifest.context_length - 1
