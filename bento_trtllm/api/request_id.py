"""The id of a request, given by a client or a proxy in x-request-id, or made up: in the response and in the log."""

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

HEADER = b"x-request-id"
# What a header and a line of the log can hold as it is; any other id is not repeated.
VALID = re.compile(rb"[\x21-\x7e]{1,128}")

CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the running code works for; empty if there is none."""


def new() -> str:
    """An id for a request that came without one."""
    return f"req-{secrets.token_hex(12)}"


def given(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id that a request brought, or a new one."""
    found = next((value for name, value in headers if name == HEADER), b"")
    return found.decode() if VALID.fullmatch(found) else new()
