"""Server-sent events (WHATWG HTML, 9.2), as frames of UTF-8 text."""

import json

TYPE = "text/event-stream"
# For every stream: they tell nginx not to buffer it, and caches not to keep it.
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DONE = "data: [DONE]\n\n"
PING = ": ping\n\n"
# Made once: json.dumps makes one per call.
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def json_text(value: object) -> str:
    """JSON in UTF-8, on one line."""
    return ENCODER.encode(value)


def data(value: object) -> str:
    """One event. JSON has no raw line ends, so one data line holds it."""
    return f"data: {json_text(value)}\n\n"


def event(kind: str, text: str) -> str:
    """One event of a type, with JSON that is text already."""
    return f"event: {kind}\ndata: {text}\n\n"


def error(value: object) -> str:
    """One event of the type `error`."""
    return event("error", json_text(value))
