"""An error as HTTP/1.1 writes it, for a connection that no application will see."""

import json
from http import HTTPStatus

from bento_trtllm.api import request_id
from bento_trtllm.api.errors import APIError


def plain_error(error: APIError) -> bytes:
    """A whole response, after which the connection is closed."""
    body = json.dumps(error.body()).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        request_id.HEADER.decode(): request_id.new(),
        **{name.lower(): value for name, value in error.headers.items()},
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
