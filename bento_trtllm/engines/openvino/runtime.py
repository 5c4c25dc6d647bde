"""The OpenVINO engine as it runs: a Triton Python model on any CPU."""

from collections.abc import Mapping

from bento_trtllm.config import Settings
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.triton_models.openvino.kv_cache import token_bytes
from bento_trtllm.triton_models.openvino.precisions import Precisions
from bento_trtllm.triton_models.shared.cores import groups
from bento_trtllm.triton_models.shared.memory import free_memory


class OpenVINORuntime(Runtime):
    """Has a value for each of its settings: what it was packed with is nobody's choice."""

    # A further tensor a message costs Triton's Python backend some 50 µs of the cores that the engine computes on.
    requested = ("output_ids",)

    def overrides(self, settings: Settings) -> dict[str, str]:
        if settings.enable_kv_cache_reuse:
            # OpenVINO GenAI 2026.4.1; cause and canary are in tests/triton/test_prefix_cache.py.
            raise EngineError(
                "enable_kv_cache_reuse=true is refused with the OpenVINO engine: OpenVINO GenAI's prefix cache "
                "gives prompts that share their beginning each other's answers; leave it out, or set it to false"
            )
        exact = self.manifest.precision == "f32" if settings.exact is None else settings.exact
        return {**settings.parameters(self.manifest.engine), "exact": str(exact).lower()}

    def check_room(self, parameters: Mapping[str, str]) -> None:
        loaded, context = self.manifest.memory.get("loaded", 0), self.manifest.context_length
        tokens = int(parameters["max_tokens_in_paged_kv_cache"]) or context
        of_a_token = token_bytes(int(parameters["kv_values_per_token"]), Precisions.read(parameters).kv_cache)
        free, cache = free_memory(groups("memory")), tokens * of_a_token
        if loaded + cache > free:
            raise EngineError(
                f"the packed model takes {loaded / 1e9:.1f} GB of memory, and {cache / 1e9:.1f} GB for a KV cache of "
                f"{tokens:,} tokens, and this machine has {free / 1e9:.1f} GB free: pack it with --precision int4, "
                "give a smaller max_tokens_in_paged_kv_cache, or take a larger machine"
            )
