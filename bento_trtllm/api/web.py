"""What the service has beside its BentoML endpoints: OpenAI's API, a page to chat with the model, a page of the API."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from bento_trtllm import VERSION
from bento_trtllm.api import elsewhere, examples, tokenization, vitals
from bento_trtllm.api.anthropic import app as anthropic
from bento_trtllm.api.openai import app as openai
from bento_trtllm.api.responses import app as responses

STATIC = Path(__file__).with_name("static")
NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The page is one file. Whatever a model writes into it, nothing is fetched from elsewhere.
CHAT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    f"connect-src 'self'; {NOWHERE}"
)
# Swagger UI writes styles into its elements, and shows pictures that are in its style sheet.
INDEX_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    f"connect-src 'self'; {NOWHERE}"
)


DESCRIPTION = (
    "Llama 3 on NVIDIA Triton: `/generate`, the APIs of OpenAI and Anthropic under `/v1`, and a page to chat at "
    "[/chat](./chat)."
)


def web_app(*, ignore_unknown: bool = False) -> FastAPI:
    """The application that is mounted beside the service's own routes. `app.state.service` is the BentoML service."""
    app = FastAPI(title="bento-trtllm", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.ignore_unknown = ignore_unknown
    responses.install(app)
    anthropic.install(app)
    openai.install(app)
    tokenization.install(app)
    vitals.install(app)
    elsewhere.install(app)
    app.add_api_route("/chat", chat_page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/docs.json", specification, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/", index_page, methods=["GET", "HEAD"], include_in_schema=False)
    return app


async def chat_page() -> Response:
    """The chat page."""
    return _page("chat.html", CHAT_POLICY)


async def index_page() -> Response:
    """Swagger UI, with BentoML's files. BentoML's own page (1.4.40) also loads Google Tag Manager."""
    return _page("index.html", INDEX_POLICY)


async def specification(request: Request) -> Response:
    """The OpenAPI of all routes as BentoML writes it, about this service and not about BentoML, and with examples."""
    content = request.app.state.service.openapi_spec.asdict()
    content["info"] = {"title": "bento-trtllm", "version": VERSION, "description": DESCRIPTION}
    examples.put(content, request.app.state.model.name)
    return JSONResponse(content)


def _page(name: str, policy: str) -> Response:
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return FileResponse(STATIC / name, media_type="text/html; charset=utf-8", headers=headers)
