"""The OpenVINO engine as it runs: a Triton Python model on any CPU."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bento_trtllm.config import Settings
from bento_trtllm.engines.openvino.fastest import fill_in
from bento_trtllm.engines.openvino.machine import machine
from bento_trtllm.engines.openvino.proof import describe, measure_apart, prove
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Proof
from bento_trtllm.triton_models.openvino.kv_cache import cached_tokens, token_bytes
from bento_trtllm.triton_models.openvino.precisions import Precisions
from bento_trtllm.triton_models.shared.cores import groups
from bento_trtllm.triton_models.shared.memory import free_memory

Proofs = TypeAdapter(list[Proof])


class OpenVINORuntime(Runtime):
    """Gives each of its settings a value: nobody chose those that it was packed with."""

    # Each further tensor in a message costs Triton's Python backend some 50 µs of the engine's cores.
    requested = ("output_ids",)

    def overrides(self, settings: Settings) -> dict[str, str]:
        if settings.enable_kv_cache_reuse:
            # OpenVINO GenAI 2026.4.1; cause and canary are in tests/triton/test_prefix_cache.py.
            raise EngineError(
                "enable_kv_cache_reuse=true is refused with the OpenVINO engine: OpenVINO GenAI's prefix cache "
                "gives prompts that share their beginning each other's answers; leave it out, or set it to false"
            )
        exact = self.manifest.precision == "f32" if settings.exact is None else settings.exact
        parameters = {**settings.parameters(self.manifest.engine), "exact": str(exact).lower()}
        return fill_in(self.manifest.precision, parameters)

    def prove(self, packed: Path, parameters: Mapping[str, str], kept: Path) -> Proof | None:
        if self.manifest.proof is None:
            # Packed before there was one.
            return None
        here, computed = machine(), describe(Precisions.read(parameters))
        file = kept / f"{self.manifest.seal[:32]}.json"
        known = [self.manifest.proof, *_shown(file)]
        if found := next((proof for proof in known if proof.is_for(here, computed)), None):
            return found
        proof = self.prove_again(packed, parameters)
        _keep(file, [*known[1:], proof])
        return proof

    def prove_again(self, packed: Path, parameters: Mapping[str, str]) -> Proof:
        return prove(packed / "engine", self.manifest.precision, Precisions.read(parameters), measure_apart)

    def memory(self, parameters: Mapping[str, str]) -> int:
        return self._loaded + self._cached(parameters) * _token_bytes(parameters)

    def share(self, parameters: Mapping[str, str], engines: int) -> Mapping[str, str]:
        """Each takes its part of what one takes of the memory that is free, unless it is told what to take. One alone
        takes that by itself (settings.py of its model), unless there is less beside its weights."""
        if int(parameters["max_tokens_in_paged_kv_cache"]):
            return parameters
        free, sequences = free_memory(groups("memory")), int(parameters["max_num_sequences"])
        token, context = _token_bytes(parameters), self.manifest.context_length
        tokens = cached_tokens(free // engines, token, context, sequences)
        if engines == 1:
            room = tokens_beside(self._loaded, free, token)
            if tokens <= room:
                return parameters
            tokens = max(room, context)
        return {**parameters, "max_tokens_in_paged_kv_cache": str(tokens)}

    def check_room(self, parameters: Mapping[str, str]) -> None:
        tokens, loaded = self._cached(parameters), self._loaded
        free, cache = free_memory(groups("memory")), tokens * _token_bytes(parameters)
        if loaded + cache > free:
            raise EngineError(
                f"the packed model takes {loaded / 1e9:.1f} GB of memory, and {cache / 1e9:.1f} GB for a KV cache of "
                f"{tokens:,} tokens, and this machine has {free / 1e9:.1f} GB free: pack it with --precision int4, "
                "give a smaller max_tokens_in_paged_kv_cache, or take a larger machine"
            )

    @property
    def _loaded(self) -> int:
        """Bytes, without the KV cache."""
        return self.manifest.memory.get("loaded", 0)

    def _cached(self, parameters: Mapping[str, str]) -> int:
        """Tokens that its KV cache has at least."""
        return int(parameters["max_tokens_in_paged_kv_cache"]) or self.manifest.context_length


def tokens_beside(loaded: int, free: int, token: int) -> int:
    """How many tokens of KV cache, of so many bytes, the free memory has room for beside what is loaded."""
    return max(0, free - loaded) // token


def _token_bytes(parameters: Mapping[str, str]) -> int:
    return token_bytes(int(parameters["kv_values_per_token"]), Precisions.read(parameters).kv_cache)


def _shown(file: Path) -> list[Proof]:
    """What a file keeps; nothing where it cannot be read."""
    with suppress(OSError, ValidationError):
        return Proofs.validate_json(file.read_bytes())
    return []


def _keep(file: Path, proofs: Sequence[Proof]) -> None:
    """Write the file, whole or not at all: where nothing can be written, each start has its own proof."""
    whole = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(exist_ok=True)
        whole.write_bytes(Proofs.dump_json(list(proofs), indent=2))
        whole.replace(file)
    except OSError:
        with suppress(OSError):
            whole.unlink()
