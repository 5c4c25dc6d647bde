"""How much a JSON text holds, counted before it is parsed: a parser holds Python's lock until it is done."""

from bento_trtllm.api import json_body
from bento_trtllm.api.errors import APIError

# Below this nothing can hold a worker for long.
SMALL = 16_384
# A conversation of thousands of parts, and the token ids of a context of 128k. Measured: a step of reading such a body
# holds Python's lock for 5 to 15 ms, and 4 MB of `[]` held it for a second.
MAX_CONTAINERS, MAX_STRINGS, MAX_VALUES = 10_000, 20_000, 150_000


def check(body: bytes) -> None:
    """Raise APIError (413) for a body with too many values. Each step is one call of a millisecond a megabyte."""
    if len(body) <= SMALL:
        return
    if body.count(b'"') - body.count(b'\\"') > 2 * MAX_STRINGS:
        raise _too_many("strings", MAX_STRINGS)
    bare = json_body.outside(body)
    if bare.count(b"[") + bare.count(b"{") > MAX_CONTAINERS:
        raise _too_many("objects and arrays", MAX_CONTAINERS)
    if bare.count(b",") > MAX_VALUES:
        raise _too_many("values", MAX_VALUES)


def _too_many(what: str, most: int) -> APIError:
    return APIError(413, "body_too_large", f"The body has over {most} {what}: send less.")
