"""What a request's headers must be before any route reads them."""

from bento_trtllm.api.asgi import Scope
from bento_trtllm.api.errors import APIError, bad_request
from bento_trtllm.metrics import routes

# Two of one of these could be read one way here and another way further on.
ONCE = (b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"content-length", b"origin")
JSON = "send JSON, with the header `content-type: application/json`."


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Headers by their names. Raises APIError (400) for one that is there twice and must not be."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:  # uvicorn writes their names in lower case
        if name in headers and name in ONCE:
            raise bad_request(f"The header {name.decode()} is there twice.")
        headers[name] = value
    return headers


def check_type(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Raise APIError (415) for a body that is not declared to be plain JSON, where one is read.

    BentoML would ignore a form, which is curl's default; and a body without a type may have been sent by a page of any
    site.
    """
    if scope["method"] != "POST" or scope["path"] not in routes.JSON:
        return
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        named = f"The body is {kind.decode('latin-1')}" if kind else "The content type of the body is missing"
        raise APIError(415, "unsupported_media_type", f"{named}: {JSON}")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"", b"identity"):
        message = f"The body's content-encoding is {encoding.decode('latin-1')}: send it as it is."
        raise APIError(415, "unsupported_media_type", message)
