"""The engines by name. Naming one imports nothing: each brings libraries of its own."""

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest

if TYPE_CHECKING:
    from bento_trtllm.engines.base import Engine
    from bento_trtllm.engines.runtime import Runtime

ENGINES = {
    "openvino": "bento_trtllm.engines.openvino.engine:OpenVINOEngine",
    "tensorrt": "bento_trtllm.engines.tensorrt.engine:TensorRTEngine",
}
RUNTIMES = {
    "openvino": "bento_trtllm.engines.openvino.runtime:OpenVINORuntime",
    "tensorrt": "bento_trtllm.engines.tensorrt.runtime:TensorRTRuntime",
}


def make_runtime(manifest: Manifest) -> "Runtime":
    """What runs a packed model. Raises EngineError for one of an engine that is not here."""
    if manifest.engine not in RUNTIMES:
        raise EngineError(f"the packed model is for the engine {manifest.engine}, which this version does not have")
    runtime: Runtime = resolve_name(RUNTIMES[manifest.engine])(manifest)
    return runtime


def make_engine(name: str, precision: str | None = None) -> "Engine":
    """The engine of that name, at its default precision unless another is given.

    Raises EngineError for a precision it does not have, KeyError for a name that is not in ENGINES.
    """
    if name == "tensorrt":
        raise EngineError("the engine tensorrt has more settings than a precision: make it with make_tensorrt")
    engine: Engine = resolve_name(ENGINES[name])(precision)
    return engine


def make_tensorrt(values: Mapping[str, Any], workspace: Path, gpu: str | None = None) -> "Engine":
    """The TensorRT engine with the settings of tensorrt/settings.py that are given; None is not given.

    `workspace` keeps finished steps of builds; `gpu` names one to plan for. Raises EngineError.
    """
    # Imported here: the other engine does without.
    from bento_trtllm.engines.tensorrt.engine import TensorRTEngine  # noqa: PLC0415
    from bento_trtllm.engines.tensorrt.settings import TensorRTSettings  # noqa: PLC0415

    return TensorRTEngine(TensorRTSettings.make(**values), workspace, gpu)
