"""The engines by name. They are imported on use, since each has libraries of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from bento_trtllm.errors import EngineError

if TYPE_CHECKING:
    from bento_trtllm.engines.base import Engine
    from bento_trtllm.engines.options import EngineOptions
    from bento_trtllm.engines.runtime import Runtime
    from bento_trtllm.manifest import Manifest


@dataclass(frozen=True)
class Sides:
    """Import paths of an engine's two sides: the options and class that pack it, and the class that runs it."""

    options: str
    engine: str
    runtime: str


ENGINES: Mapping[str, Sides] = {
    "openvino": Sides(
        "bento_trtllm.engines.openvino.options:OpenVINOOptions",
        "bento_trtllm.engines.openvino.engine:OpenVINOEngine",
        "bento_trtllm.engines.openvino.runtime:OpenVINORuntime",
    ),
    "tensorrt": Sides(
        "bento_trtllm.engines.tensorrt.settings:TensorRTOptions",
        "bento_trtllm.engines.tensorrt.engine:TensorRTEngine",
        "bento_trtllm.engines.tensorrt.runtime:TensorRTRuntime",
    ),
    "pytorch": Sides(
        "bento_trtllm.engines.pytorch.options:PyTorchOptions",
        "bento_trtllm.engines.pytorch.engine:PyTorchEngine",
        "bento_trtllm.engines.pytorch.runtime:PyTorchRuntime",
    ),
}


def options_of(name: str) -> "type[EngineOptions]":
    """The options of pack_model.py for the engine with that name, which must be in ENGINES."""
    options: type[EngineOptions] = resolve_name(ENGINES[name].options)
    return options


def make_engine(name: str, **values: object) -> "Engine":
    """The engine with that name, which must be in ENGINES, with the given options; None means not given.

    Raises EngineError for options that it does not have, or that do not go together.
    """
    engine: Engine = resolve_name(ENGINES[name].engine).make(values)
    return engine


def make_runtime(manifest: "Manifest") -> "Runtime":
    """What runs a pack. Raises EngineError if this version does not have its engine."""
    if manifest.engine not in ENGINES:
        raise EngineError(f"the packed model is for the engine {manifest.engine}, which this version does not have")
    runtime: Runtime = resolve_name(ENGINES[manifest.engine].runtime)(manifest)
    return runtime
