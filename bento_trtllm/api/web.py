"""What the service has beside its BentoML endpoints: OpenAI's API, a page to chat with the model, a page of the API."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from bento_trtllm import VERSION
from bento_trtllm.api import admin, elsewhere, examples, pages, tokenization, vitals
from bento_trtllm.api.anthropic import app as anthropic
from bento_trtllm.api.anthropic import errors as anthropic_errors
from bento_trtllm.api.openai import app as openai
from bento_trtllm.api.openai import framing
from bento_trtllm.api.pings import LateError
from bento_trtllm.api.responses import app as responses
from bento_trtllm.api.responses import events
from bento_trtllm.api.routing import all_served

DESCRIPTION = (
    "Llama 3 on NVIDIA Triton: `/generate`, the APIs of OpenAI and Anthropic under `/v1`, and a page to chat at "
    "[/chat](./chat)."
)

LATE_ERRORS: Mapping[str, LateError] = {
    "/v1/chat/completions": framing.late_error,
    "/v1/completions": framing.late_error,
    "/v1/responses": events.late_error,
    anthropic_errors.PATH: anthropic_errors.late_error,
}
"""By path, where clients read an event of their API's own; elsewhere it has the type `error` and OpenAI's object."""


def web_app(*, ignore_unknown: bool = False, has_admin: bool = False) -> FastAPI:
    """The application that is mounted beside the service's own routes, with or without those of admin.py.

    `app.state.service` is the BentoML service.
    """
    app = FastAPI(title="bento-trtllm", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.ignore_unknown = ignore_unknown
    responses.install(app)
    anthropic.install(app)
    openai.install(app)
    tokenization.install(app)
    vitals.install(app)
    if has_admin:
        admin.install(app)
    elsewhere.install(app)
    app.add_api_route("/chat", pages.chat_page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/docs.json", specification, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/", pages.index_page, methods=["GET", "HEAD"], include_in_schema=False)
    return app


async def specification(request: Request) -> Response:
    """The OpenAPI of all routes as BentoML writes it, about this service and not about BentoML, and with examples."""
    content = request.app.state.service.openapi_spec.asdict()
    content["info"] = {"title": "bento-trtllm", "version": VERSION, "description": DESCRIPTION}
    examples.put(content, all_served(request)[0].name)
    return JSONResponse(content)
