"""What the routes of all APIs have in common: decoded bodies, the model that is asked, work off the event loop."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from bento_trtllm.api.access import KEY
from bento_trtllm.api.bodies import DECODED
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.model import ServedModel, called
from bento_trtllm.api.threads import in_thread
from bento_trtllm.keys.key import Key

Result = TypeVar("Result")
SERVED, ALL_SERVED = "bento_trtllm.model", "bento_trtllm.models"
"""In a request's scope: the model that serves it, and all that the service has (swap/visits.py)."""
# Reading a longer request takes milliseconds, in which no stream would move; so does compiling a form.
LONG_BODY, LONG_FORM = 16_384, 1024


class DecodedRequest(Request):
    """A request whose body was decoded before it came here (api/bodies.py), and maybe read: `kind` is what it is."""

    kind: TypeAdapter[Any] | None = None

    async def json(self) -> Any:
        body = self.scope[DECODED]
        if self.kind is None or not self.app.state.ignore_unknown:
            return body
        try:
            # FastAPI takes a body of that type as it is.
            return self.kind.validate_python(body, extra="ignore")
        except ValidationError:
            return body  # FastAPI finds the same again, and reports it as it does all others


class Route(APIRoute):
    """A route of such requests: FastAPI's own parser takes lone surrogates, NaN and any nesting."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        kind = TypeAdapter[Any](self.body_field.field_info.annotation) if self.body_field else None  # type: ignore[arg-type]

        async def handle_decoded(request: Request) -> Response:
            decoded = DecodedRequest(request.scope, request.receive)
            decoded.kind = kind
            return await handle(decoded)

        return handle_decoded


def served(request: Request) -> ServedModel:
    """The model that this request names, or the service's first, even if another has taken its place since."""
    return cast(ServedModel, request.scope[SERVED])


def all_served(request: Request) -> Sequence[ServedModel]:
    """All models that the service has."""
    return cast(Sequence[ServedModel], request.scope[ALL_SERVED])


def find(request: Request, name: str) -> ServedModel:
    """The model that a request names. Raises APIError (404, 403)."""
    return named(request.scope, name)


def named(scope: Mapping[str, Any], name: str) -> ServedModel:
    """A model that is served, or a variant of one. Raises APIError: 404, or 403 where a key does not allow it."""
    return with_base(scope, name)[0]


def with_base(scope: Mapping[str, Any], name: str) -> tuple[ServedModel, ServedModel]:
    """The same, and the model that it is or is a variant of. Raises APIError."""
    models: Sequence[ServedModel] = scope[ALL_SERVED]
    base, found = next(((model, found) for model in models if (found := called(model, name))), (None, None))
    if base is None or found is None:
        known = ", ".join(f"`{each}`" for model in models for each in (model.name, *model.variants))
        message = f"The model `{name}` does not exist: this server has {known}."
        raise APIError(404, "invalid_request", message, param="model", code="model_not_found")
    if key := refusing(scope, found):
        message = f"The key {key.name} does not allow the model `{name}`."
        raise APIError(403, "forbidden", message, param="model", code="model_not_found")
    return found, base


def refusing(scope: Mapping[str, Any], model: ServedModel) -> Key | None:
    """The key of a request, if that does not allow this model."""
    key: Key | None = scope.get(KEY)
    return key if key and not key.permitted.allows(model.kind, model.name, model.tag) else None


async def off_loop(request: Request, work: Callable[[], Result], long: int) -> Result:
    """The result of work, which is done in a thread where the body is longer than `long` bytes: then it takes long."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= long:
        return work()
    return await in_thread(work)
