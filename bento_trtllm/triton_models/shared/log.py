"""Triton's log, for a model in a folder of any name.

Triton's Logger takes the file of whoever calls it as a C++ string, and ends the process where that cannot be UTF-8:
with ASCII for the names of files (the stub's Python is isolated), `é` in one is no character (Triton 2.51). So it is
called from code that gives a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import triton_python_backend_utils as pb_utils

NAME = "tensorrt_llm"


def _info(message: str) -> None:
    pb_utils.Logger.log_info(message)


def _error(message: str) -> None:
    pb_utils.Logger.log_error(message)


def _named(function: Callable[[str], None]) -> Callable[[str], None]:
    function.__code__ = function.__code__.replace(co_filename=NAME)
    return function


info, error = _named(_info), _named(_error)
