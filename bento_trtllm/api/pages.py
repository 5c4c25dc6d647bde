"""Pages: a chat with the model, the API, and how the service is doing. They fetch nothing from another host."""

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path

from fastapi import Response

STATIC = Path(__file__).with_name("static")
NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Swagger UI writes styles into its elements, and shows pictures that are in its style sheet.
INDEX_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    f"connect-src 'self'; {NOWHERE}"
)
LIBRARY = '<script src="markdown-it.js"></script>'
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


async def chat_page() -> Response:
    """The chat page."""
    return _response(*_chat())


def admin_page() -> Response:
    """How the service is doing."""
    return _response(*_admin())


async def index_page() -> Response:
    """Swagger UI, with BentoML's files. BentoML's own page (1.4.40) also loads Google Tag Manager."""
    return _response((STATIC / "index.html").read_text("utf-8"), INDEX_POLICY)


@lru_cache(maxsize=1)
def _chat() -> tuple[str, str]:
    """The page with its library in it, and its policy.

    Only the page's own two scripts run, known by their hashes: none that a model might get into it, and nothing is
    fetched from elsewhere.
    """
    library = (STATIC / "markdown-it.js").read_text("utf-8")
    page = (STATIC / "chat.html").read_text("utf-8").replace(LIBRARY, f"<script>{library}</script>")
    return page, _own_scripts(page)


@lru_cache(maxsize=1)
def _admin() -> tuple[str, str]:
    page = (STATIC / "admin.html").read_text("utf-8")
    return page, _own_scripts(page)


def _own_scripts(page: str) -> str:
    """The policy of a page whose own scripts run, and no others."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in SCRIPT.findall(page))
    scripts = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src 'self'; {NOWHERE}"
    )


def _response(page: str, policy: str) -> Response:
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)
