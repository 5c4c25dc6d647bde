"""An error in a stream whose response began before its first event, as the clients of its route read it."""

import json
from typing import Any

from bento_trtllm.api import sse
from bento_trtllm.api.anthropic.errors import PATH as MESSAGES
from bento_trtllm.api.anthropic.errors import error_object
from bento_trtllm.api.responses.events import ErrorEvent

RESPONSES = "/v1/responses"
# Where an event has no type: OpenAI's clients look at the data.
UNTYPED = ("/v1/chat/completions", "/v1/completions")


def event(path: str, status: int, body: bytes) -> str:
    """The event, given the response that there would have been: OpenAI's object."""
    content: dict[str, Any] = json.loads(body)
    error: dict[str, Any] = content["error"]
    if path in UNTYPED:
        return sse.data(content)
    if path == MESSAGES:
        return f"event: error\ndata: {error_object(status, error['message']).dump()}\n\n"
    if path == RESPONSES:
        told = ErrorEvent(
            type="error", sequence_number=0, code=error["code"], message=error["message"], param=error["param"]
        )
        return f"event: error\ndata: {told.dump()}\n\n"
    return sse.error(content)
