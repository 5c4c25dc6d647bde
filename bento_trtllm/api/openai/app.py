"""The routes: /v1/models, /v1/chat/completions, /v1/completions."""

from contextlib import aclosing

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from bento_trtllm.api import faults
from bento_trtllm.api.error_body import ERRORS
from bento_trtllm.api.errors import APIError, bad_request, describe
from bento_trtllm.api.event_stream import event_stream
from bento_trtllm.api.examples import MESSAGES, example
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import chat, chat_answer, completions, functions, responses
from bento_trtllm.api.openai.choices import ResponseHead
from bento_trtllm.api.openai.extras import WantedExtras
from bento_trtllm.api.openai.framing import BareData
from bento_trtllm.api.openai.requests import ChatRequest, CommonFields, CompletionRequest
from bento_trtllm.api.response_body import ResponseBody, new_id
from bento_trtllm.api.routing import LONG_BODY, LONG_FORM, Route, all_served, find, off_loop, refusing, with_base
from bento_trtllm.errors import BentoTRTLLMError
from bento_trtllm.generation.fan_out import fan_out, repeat

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=ERRORS, route_class=Route)


def install(app: FastAPI) -> None:
    """Add the routes, and OpenAI's form of errors."""
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(Exception, _fail)
    for kind in (APIError, BentoTRTLLMError):
        app.add_exception_handler(kind, _fail)


@router.get("/models", response_model=responses.ModelList)
async def list_models(request: Request) -> Response:
    """All models that are served, as far as the request's key allows them."""
    known = [(model, each) for model in all_served(request) for each in (model, *model.variants.values())]
    data = [_card(each, model) for model, each in known if not refusing(request.scope, each)]
    return _json(responses.ModelList(object="list", data=data))


@router.get("/models/{model:path}", response_model=responses.ModelCard)
async def retrieve_model(request: Request, model: str) -> Response:
    """What is known of a model."""
    return _json(_card(*with_base(request.scope, model)))


@router.post(
    "/chat/completions",
    response_model=responses.ChatCompletion,
    openapi_extra=example(messages=MESSAGES, max_tokens=64),
)
async def create_chat_completion(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation; with `stream`, as server-sent events."""
    model = find(request, body.model)
    _check_stream(body)
    understood = await off_loop(
        request, lambda: chat.read(body, model), LONG_FORM if chat.has_form(body) else LONG_BODY
    )
    requests = repeat(understood.request, body.n or 1)
    head = _head("chatcmpl-", body, model)
    events = fan_out(model.generator, requests)
    if body.stream:
        stream = chat_answer.ChatStream(
            understood, head, model, len(requests), include_usage=_include_usage(body), wanted=WantedExtras.of(body)
        )
        groups = stream.render(events)
        return await event_stream(functions.stream_as_asked(groups) if body.functions else groups, BareData())
    async with aclosing(events):
        completion = await chat_answer.collect(understood, head, model, len(requests), events)
        return _json(functions.as_asked(completion) if body.functions else completion)


@router.post(
    "/completions",
    response_model=responses.Completion,
    openapi_extra=example(prompt="A superconductor is", max_tokens=16),
)
async def create_completion(request: Request, body: CompletionRequest) -> Response:
    """Continue a text; with `stream`, as server-sent events."""
    model = find(request, body.model)
    _check_stream(body)
    long = LONG_FORM if completions.has_form(body) else LONG_BODY
    understood = await off_loop(request, lambda: completions.read(body, model), long)
    head = _head("cmpl-", body, model)
    events = fan_out(model.generator, understood.requests)
    if body.stream:
        stream = completions.CompletionStream(
            understood, head, model, include_usage=_include_usage(body), wanted=WantedExtras.of(body)
        )
        return await event_stream(stream.render(events), BareData())
    async with aclosing(events):
        return _json(await completions.collect(understood, head, model, events))


def _card(model: ServedModel, base: ServedModel) -> responses.ModelCard:
    card = responses.ModelCard(
        id=model.name,
        object="model",
        created=model.created,
        owned_by="bento-trtllm",
        # The longest prompt and a token; only without chunked context may prompt and answer together be longer.
        max_model_len=model.generator.longest_prompt + 1,
        proof=model.proof,
    )
    if model is not base:
        card.parent = base.name
    return card


def _head(prefix: str, body: CommonFields, model: ServedModel) -> ResponseHead:
    return ResponseHead(new_id(prefix), body.model, f"{model.manifest.engine}-{model.manifest.precision}")


def _check_stream(body: CommonFields) -> None:
    if body.stream_options and not body.stream:
        raise bad_request("stream_options goes with stream: true only.", param="stream_options")


def _include_usage(body: CommonFields) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)


def _json(body: ResponseBody) -> Response:
    return Response(body.dump(), media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{**fault, "loc": fault["loc"][1:]} for fault in error.errors()]
    if request.app.state.ignore_unknown:
        found = [fault for fault in found if fault["type"] != faults.UNKNOWN]
    return _error(faults.describe(found, error.body))


async def _fail(_: Request, error: Exception) -> Response:
    return _error(describe(error))


def _error(error: APIError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers)
