"""Whether several engines go together on one machine."""

from collections.abc import Mapping

from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.triton_models.shared.cores import groups
from bento_trtllm.triton_models.shared.memory import free_memory


def check_together(models: Mapping[str, tuple[Runtime, Mapping[str, str]]]) -> None:
    """Raise EngineError, in one sentence, where the machine is too small for all; by name, with their parameters."""
    needed = {name: runtime.memory(parameters) for name, (runtime, parameters) in models.items()}
    free = free_memory(groups("memory"))
    if sum(needed.values()) > free:
        each = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in needed.items() if size)
        raise EngineError(
            f"the models take {sum(needed.values()) / 1e9:.1f} GB of memory together ({each}), the smallest KV caches "
            f"included, and this machine has {free / 1e9:.1f} GB free: pack them with --precision int4, give a smaller "
            "max_tokens_in_paged_kv_cache, leave one out, or take a larger machine"
        )
    on_gpus = [runtime.bounded(parameters) for runtime, parameters in models.values() if runtime.gpu]
    if len(on_gpus) > 1 and not all(on_gpus):
        raise EngineError(
            "several models share the GPUs, and unless it is told, each takes most of the memory that is free: give "
            "max_tokens_in_paged_kv_cache, or kv_cache_free_gpu_mem_fraction"
        )
