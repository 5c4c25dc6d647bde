"""What BentoML asks for before it is made."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from bento_trtllm.bento.later import LaterApp, LaterMiddlewares


class Named:
    """Middleware that writes down that it saw something."""

    def __init__(self, app: ASGIApp, *, name: str, seen: list[str]) -> None:
        self._app, self._name, self._seen = app, name, seen
        seen.append(f"{name} made")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seen.append(f"{self._name} {scope['type']}")
        await self._app(scope, receive, send)


def test_middlewares_are_made_once_and_in_order_at_the_first_request() -> None:
    seen: list[str] = []

    def make() -> list[tuple[type[Named], dict[str, object]]]:
        return [(Named, {"name": name, "seen": seen}) for name in ("first", "second")]

    with TestClient(LaterMiddlewares(Starlette(), make)) as client:
        assert seen == []
        assert client.get("/").status_code == client.get("/").status_code == 404
    requests = ["first http", "second http"]
    assert seen == ["second made", "first made", *requests, *requests]


def test_an_application_is_made_once_when_a_request_looks_for_its_route() -> None:
    made: list[Starlette] = []

    async def answer(request: Request) -> Response:
        return Response()

    def make() -> Starlette:
        made.append(Starlette(routes=[Route("/there", answer)]))
        return made[-1]

    later = LaterApp(make)
    with TestClient(Starlette(routes=[Mount("/", later)])) as client:
        assert made == []
        assert client.get("/there").status_code == 200
        assert client.get("/elsewhere").status_code == 404
    (app,) = made
    assert later.routes == app.routes
