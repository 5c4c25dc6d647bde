"""The engines by name. Naming one imports nothing: each brings libraries of its own."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bento_trtllm.engines.base import Engine

ENGINES = {"openvino": "bento_trtllm.engines.openvino:OpenVINOEngine"}


def make_engine(name: str, precision: str | None = None) -> "Engine":
    """The engine of that name, at its default precision unless another is given.

    Raises EngineError for a precision it does not have, KeyError for a name that is not in ENGINES.
    """
    engine: Engine = resolve_name(ENGINES[name])(precision)
    return engine
