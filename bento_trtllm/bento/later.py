"""What a worker's application is made of, where BentoML wants it before the service starts (1.4.40).

It takes a fifth of a second of imports, in which an engine can load: so it is made once that has been launched, before
any request comes.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Middlewares = Iterable[tuple[type[Any], dict[str, Any]]]
"""Classes and their options; the first sees a request first."""


class LaterApp(Starlette):
    """An application that is made when it is first called, or its routes are looked at."""

    def __init__(self, make: Callable[[], Starlette]) -> None:
        self._make = make

    @cached_property
    def made(self) -> Starlette:
        """The application itself."""
        return self._make()

    @property
    def routes(self) -> list[BaseRoute]:
        return self.made.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.made(scope, receive, send)


class LaterMiddlewares:
    """ASGI middleware: several, which are made at the first request, in which none of them sees a lifespan."""

    def __init__(self, app: ASGIApp, make: Callable[[], Middlewares]) -> None:
        self._app, self._make = app, make

    @cached_property
    def _made(self) -> ASGIApp:
        app = self._app
        for kind, options in reversed([*self._make()]):
            app = kind(app, **options)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._app if scope["type"] == "lifespan" else self._made)(scope, receive, send)


def import_backend() -> None:
    """Have anyio import what it runs on here, in the event loop: else the first stream of each worker waits 10 ms for
    that."""
    anyio.get_current_task()
