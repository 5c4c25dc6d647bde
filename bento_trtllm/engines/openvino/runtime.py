"""The OpenVINO engine as it runs: a Triton Python model on any CPU."""

from bento_trtllm.config import Settings
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError


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
        return settings.parameters(self.manifest.engine)
