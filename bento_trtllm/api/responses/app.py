"""The routes: POST /v1/responses, and those below it, which need what is not kept."""

from contextlib import aclosing

from fastapi import APIRouter, FastAPI, Request, Response

from bento_trtllm.api.error_body import ERRORS
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.event_stream import event_stream
from bento_trtllm.api.examples import example
from bento_trtllm.api.responses import conversation
from bento_trtllm.api.responses.answer import ResponseAnswer
from bento_trtllm.api.responses.objects import ResponseObject
from bento_trtllm.api.responses.requests import NOTHING_KEPT, ResponsesRequest
from bento_trtllm.api.routing import LONG_BODY, LONG_FORM, Route, find, off_loop
from bento_trtllm.generation.fan_out import fan_out

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=ERRORS, route_class=Route)


def install(app: FastAPI) -> None:
    """Add the routes, before those of api/openai, which has the handlers of errors and all other paths."""
    app.include_router(router)


@router.post(
    "/responses",
    response_model=ResponseObject,
    openapi_extra=example(input="Say hello in Japanese", max_output_tokens=64),
)
async def create_response(request: Request, body: ResponsesRequest) -> Response:
    """Answer a conversation that the request brings whole; with `stream`, as typed server-sent events."""
    model = find(request, body.model)
    long = LONG_FORM if conversation.has_form(body) else LONG_BODY
    understood = await off_loop(request, lambda: conversation.read(body, model), long)
    answer = ResponseAnswer(body, understood, model)
    items = fan_out(model.generator, [understood.request])
    if body.stream:
        return await event_stream(answer.render(items), answer)
    async with aclosing(items):
        return Response((await answer.collect(items)).dump(), media_type="application/json")


@router.api_route("/responses/{path:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def kept(request: Request, path: str) -> Response:
    """A response of earlier."""
    message = f"There is no response {path[:80]}: {NOTHING_KEPT}."
    raise APIError(404, "invalid_request", message, code="not_found")
