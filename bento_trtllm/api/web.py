"""What the service has beside its BentoML endpoints: OpenAI's API, and a page to chat with the model."""

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from bento_trtllm.api.openai import app as openai

PAGE = Path(__file__).parent.parent / "static" / "chat.html"
# The page is one file. Whatever a model writes into it, nothing is fetched from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def web_app() -> FastAPI:
    """The application that is mounted beside the service's own routes."""
    app = FastAPI(title="bento-trtllm", openapi_url=None, docs_url=None, redoc_url=None)
    openai.install(app)
    app.add_api_route("/chat", chat_page, methods=["GET"], include_in_schema=False)
    return app


async def chat_page() -> Response:
    """The chat page."""
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
    return FileResponse(PAGE, media_type="text/html; charset=utf-8", headers=headers)
