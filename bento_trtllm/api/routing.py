"""What the routes of all APIs have in common: bodies that were decoded, the model that is asked, work off the loop."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute

from bento_trtllm.api.aside import aside
from bento_trtllm.api.bodies import DECODED
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.model import ServedModel

Result = TypeVar("Result")
# Reading a longer request takes milliseconds, in which no stream would move; so does compiling a form.
LONG_BODY, LONG_FORM = 16_384, 1024


class DecodedRequest(Request):
    """A request whose body was decoded before it came here (api/bodies.py)."""

    async def json(self) -> Any:
        return self.scope[DECODED]


class Route(APIRoute):
    """A route whose requests are such: FastAPI's own parser takes lone surrogates, NaN and any nesting."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_decoded(request: Request) -> Response:
            return await handle(DecodedRequest(request.scope, request.receive))

        return handle_decoded


def served(request: Request) -> ServedModel:
    """The model of this service."""
    return cast(ServedModel, request.app.state.model)


def find(request: Request, name: str) -> ServedModel:
    """The model that a request names. Raises APIError (404)."""
    model = served(request)
    if name not in (model.name, model.tag):
        message = f"The model `{name}` does not exist: this server has `{model.name}`."
        raise APIError(404, "invalid_request", message, param="model", code="model_not_found")
    return model


async def off_loop(request: Request, work: Callable[[], Result], long: int) -> Result:
    """The result of work that takes long where the body is longer than that, in bytes; then in a thread."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= long:
        return work()
    return await aside(work)
