"""What an engine computes in where no setting says so: what is fastest on this CPU for the weights that it has.

Weights of 8 and 4 bits meet activations that are rounded to 8, as in llama.cpp. Measured: docs/performance.md, "Which
arithmetic".
"""

from collections.abc import Mapping

from bento_trtllm.config import EngineSettings
from bento_trtllm.engines.openvino.machine import instructions
from bento_trtllm.triton_models.openvino.precisions import Precisions

GROUP = 128
"""Activations that share a scale, as many as weights of 4 bits. OpenVINO's own 32 makes four times as many scales."""
WHOLE_TOKEN = 1 << 31
"""A group that has all activations of a token, however wide a layer is."""
AMX = {"amx_int8", "amx_bf16"}


def fill_in(weights: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters, with a value for those that say what is computed in which type."""
    found = dict(parameters)
    if found["exact"] == "true" or weights not in ("int8", "int4"):
        return found
    given, cache = found["inference_precision"], found["kv_cache_precision"]
    # Only with both do OpenVINO 2026.4's kernels for three products at once take weights of 8 bits (LLMMLP and
    # QKVProjection of its CPU plugin). It rounds nothing in a product of its own there: that is for f32.
    if weights == "int8" and instructions() >= AMX and "f32" not in (given, cache):
        precision, group = "bf16", WHOLE_TOKEN
    else:
        precision, group = "bf16" if cache == "bf16" else "f32", GROUP
    found["inference_precision"] = given or precision
    found["dynamic_quantization_group_size"] = found["dynamic_quantization_group_size"] or str(group)
    return found


def defaults(weights: str) -> dict[str, str]:
    """The parameters where no setting says otherwise, before anything is filled in: f32 is computed exactly."""
    return {**EngineSettings().parameters("openvino"), "exact": str(weights == "f32").lower()}


def default_precisions(weights: str) -> Precisions:
    """What is computed in which type where no setting says otherwise."""
    return Precisions.read(fill_in(weights, defaults(weights)))
