"""How a response says that a request failed, on all routes but Anthropic's."""

from typing import Any

from bento_trtllm.api.response_body import ResponseBody


class Error(ResponseBody):
    """What went wrong. `param` is the field that is to blame, `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(ResponseBody):
    """The body of every response that is not 200."""

    error: Error


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}}
"""For the description of a route."""
