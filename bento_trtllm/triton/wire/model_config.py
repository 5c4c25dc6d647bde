"""Triton's ModelConfig, without a client of Triton's.

tritonclient has the message in a package that imports its whole client, with gRPC and numpy. The process of
`bentoml serve` needs neither, and a worker not before its Triton loads.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

ENGINE = "tensorrt_llm"
"""The model that is the engine."""
MODULE = "tritonclient.grpc.model_config_pb2"


def _alone() -> ModuleType:
    """The module, under its own name, so that tritonclient finds it if it is imported later."""
    if MODULE not in sys.modules:
        client = find_spec("tritonclient")
        assert client and client.origin
        spec = spec_from_file_location(MODULE, Path(client.origin).parent / "grpc" / "model_config_pb2.py")
        assert spec and spec.loader
        sys.modules[MODULE] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[MODULE]


if TYPE_CHECKING:
    from tritonclient.grpc import model_config_pb2

    pb = model_config_pb2
else:
    pb = _alone()
