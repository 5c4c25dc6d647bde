"""The routes: POST /v1/messages and POST /v1/messages/count_tokens."""

from contextlib import aclosing
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request, Response

from bento_trtllm.api.anthropic import conversation
from bento_trtllm.api.anthropic.answer import MessageAnswer
from bento_trtllm.api.anthropic.errors import PATH, AnthropicErrors
from bento_trtllm.api.anthropic.objects import ErrorObject, MessageObject, TokenCount
from bento_trtllm.api.anthropic.requests import CountRequest, MessagesRequest
from bento_trtllm.api.event_stream import event_stream
from bento_trtllm.api.examples import MESSAGES, example
from bento_trtllm.api.routing import LONG_BODY, LONG_FORM, Route, find, off_loop
from bento_trtllm.generation.fan_out import fan_out

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorObject}, "5XX": {"model": ErrorObject}}

router = APIRouter(prefix=PATH, tags=["Anthropic"], responses=ERRORS, route_class=Route)


def install(app: FastAPI) -> None:
    """Add the routes, before those of api/openai, which has all other paths, and the form of their errors."""
    app.include_router(router)
    app.add_middleware(cast(Any, AnthropicErrors))


@router.post("", response_model=MessageObject, openapi_extra=example(messages=MESSAGES, max_tokens=64))
async def create_message(request: Request, body: MessagesRequest) -> Response:
    """Answer a conversation; with `stream`, as typed server-sent events."""
    model = find(request, body.model)
    long = LONG_FORM if conversation.has_form(body) else LONG_BODY
    understood = await off_loop(request, lambda: conversation.read(body, model), long)
    answer = MessageAnswer(body, understood)
    items = fan_out(model.generator, [understood.request])
    if body.stream:
        return await event_stream(answer.render(items), answer)
    async with aclosing(items):
        return Response((await answer.collect(items)).dump(), media_type="application/json")


@router.post("/count_tokens", response_model=TokenCount, openapi_extra=example(messages=MESSAGES))
async def count_tokens(request: Request, body: CountRequest) -> Response:
    """How many tokens the prompt of such a message has."""
    model = find(request, body.model)
    tokens = await off_loop(request, lambda: conversation.count(body, model), LONG_BODY)
    return Response(TokenCount(input_tokens=tokens).dump(), media_type="application/json")
