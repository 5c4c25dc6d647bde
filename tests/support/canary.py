"""Canaries: tests that fail when a library's inside is not as it was read, and say where that is taken for granted."""

import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any


def expect(inside: Any, *phrases: str, look: str) -> None:
    """Fail, with what to look at, where the source of `inside` no longer has one of the phrases, in this order.

    White space does not count.
    """
    source = _squeezed(inspect.getsource(inside))
    name, place = getattr(inside, "__qualname__", inside.__name__), 0
    for phrase in phrases:
        found = source.find(_squeezed(phrase), place)
        assert found >= 0, f"{name} ({inspect.getsourcefile(inside)}) no longer says {phrase!r}: look at {look}"
        place = found + 1


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def takes(inside: Callable[..., Any], *names: str, look: str) -> None:
    """Fail where a function's parameters do not begin with these."""
    found = list(inspect.signature(inside).parameters)[: len(names)]
    assert found == list(names), f"{inside.__qualname__} takes {found} and no longer {list(names)}: look at {look}"


def unpatched(name: str) -> Any:
    """A module as it is written: sse_starlette, which other tests' clients bring, replaces parts of uvicorn."""
    spec = find_spec(name)
    assert spec and spec.loader, name
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
