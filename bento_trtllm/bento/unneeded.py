"""What BentoML's application imports in every worker, and a service of ours never uses (1.4.40).

`_bentoml_impl.server.app` has the proxy for services that are another program (`cmd`), with aiohttp and pyparsing;
its package has what starts the workers, with circus, which they do without; and each service gets a client of itself,
with aiohttp. That is 0.2 s of a worker's CPU time before it is ready.
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
CLIENT = "_bentoml_impl.client.proxy2"


class NoClient:
    """In place of BentoML's RemoteProxy: it is false, for which BentoML calls a service's methods as they are."""

    to_async = to_sync = None

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    async def __aenter__(self) -> "NoClient":
        return self

    async def close(self) -> None:
        """There is nothing to close."""


def leave_out() -> None:
    """Have these modules imported only if their function is called, and make a service no client of itself.

    Call it in a worker, as the service is imported.
    """
    for name, function in FUNCTIONS.items():
        if name not in sys.modules:
            stand_in = ModuleType(name)
            setattr(stand_in, function, _later(stand_in, function))
            sys.modules[name] = stand_in
    if CLIENT not in sys.modules:
        sys.modules[CLIENT] = stand_in = ModuleType(CLIENT)
        stand_in.RemoteProxy = NoClient  # type: ignore[attr-defined]


def _later(stand_in: ModuleType, function: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        name = stand_in.__name__
        if sys.modules[name] is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), function)(*args, **options)

    return call
