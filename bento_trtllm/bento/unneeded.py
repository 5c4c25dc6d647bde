"""What BentoML's application imports in every worker, and a service of ours never uses (1.4.40).

`_bentoml_impl.server.app` has the proxy for services that are another program (`cmd`), with aiohttp and pyparsing;
its package has what starts the workers, with circus, which they do without. That is 0.15 s of a worker's CPU time
before it is ready.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

FUNCTIONS = {
    "_bentoml_impl.server.proxy": "create_proxy_app",
    "_bentoml_impl.server.serving": "serve_http",
}
"""By module, the one function that others import from it."""


def leave_out() -> None:
    """Have these modules imported only if their function is called. Call it in a worker, as the service is imported."""
    for name, function in FUNCTIONS.items():
        if name not in sys.modules:
            stand_in = ModuleType(name)
            setattr(stand_in, function, _later(stand_in, function))
            sys.modules[name] = stand_in


def _later(stand_in: ModuleType, function: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        name = stand_in.__name__
        if sys.modules[name] is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), function)(*args, **options)

    return call
