"""The JSON that clients send, as Python values: the one place that all of it passes through.

What comes out is safe to print, encode and compare: UTF-8 without halves of surrogate pairs, numbers that a double
holds, nesting that no recursion trips over. The parser is pydantic's (jiter), which refuses most of the rest by itself.
"""

import math
import re
from typing import Any

from pydantic_core import from_json

from bento_trtllm.api.errors import bad_request

# What the parser takes (jiter 0.11, DEFAULT_RECURSION_LIMIT).
MAX_DEPTH = 200
# To say which field is wrong, what comes before it is read again, slowly: about 10 ms for this many bytes.
MAX_SEARCHED = 65_536
BOM = b"\xef\xbb\xbf"
# Only a number with an exponent, or with so many digits, can be beyond a double, 1.8e308.
DIGITS = 210
ALL_ZERO = bytes.maketrans(b"123456789", b"000000000")
PLACE = re.compile(r" at line (\d+) column (\d+)$")
NAMES = (b"NaN", b"Infinity", b"-Infinity")
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{},:]', re.DOTALL)

Path = list[int | str]


class InvalidJSON(ValueError):
    """Says what is wrong, and where; `syntax` is false for JSON that is well written but cannot be taken."""

    def __init__(self, message: str, path: Path, *, syntax: bool = True) -> None:
        super().__init__(message)
        self.path = path
        self.syntax = syntax


def decode(body: bytes) -> Any:
    """The value. Raises InvalidJSON."""
    body = body.removeprefix(BOM)
    try:
        # The parser would keep 16,384 short strings of anybody's bodies for as long as the worker lives.
        value = from_json(body, allow_inf_nan=False, cache_strings=False)
    except ValueError as error:
        raise _explain(body, str(error)) from None
    if _may_be_large(outside(body)) and (path := _too_large(value)) is not None:
        raise InvalidJSON("the number is too large: at most 1.8e308 can be taken", path, syntax=False)
    return value


def read(body: bytes) -> Any:
    """The value of a request's body. Raises APIError (400), which names the field."""
    try:
        return decode(body)
    except InvalidJSON as error:
        field = show(error.path)
        if error.syntax:
            where = f", in {field}" if field else ""
            raise bad_request(
                f"The body is not JSON: {error}{where}.", param=field or None, code="invalid_json"
            ) from None
        raise bad_request(f"{field or 'The body'}: {error}.", param=field or None, code="invalid_value") from None


def show(path: Path) -> str:
    """A path as people write it: messages[0].content."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _explain(body: bytes, fault: str) -> InvalidJSON:
    """The parser's complaint in words for people, with the field that it is about."""
    if not body.strip():
        return InvalidJSON("it is empty", [])
    if b"\0" in body[:2] or body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return InvalidJSON("it is UTF-16 or UTF-32, and JSON is UTF-8", [])
    place = PLACE.search(fault)
    if place is None:
        return InvalidJSON(fault, [])
    offset = _offset(body, int(place[1]), int(place[2]))
    path = _path(body[:offset]) if offset <= MAX_SEARCHED else []
    if fault.startswith("recursion limit"):
        return InvalidJSON(f"it is nested over {MAX_DEPTH} deep", path[:8], syntax=False)
    if fault.startswith("number out of range"):
        return InvalidJSON("the number has too many digits", path, syntax=False)
    if "surrogate" in fault or "hex escape" in fault:
        return InvalidJSON("the text has half of a surrogate pair, or a broken \\u escape", path, syntax=False)
    if "unicode code point" in fault:
        return InvalidJSON("the text is not UTF-8", path, syntax=False)
    start = max(offset - 3, 0)
    if name := next((name for name in NAMES if name in body[start : offset + 9]), None):
        return InvalidJSON(f"{name.decode()} is no number that JSON has", path)
    return InvalidJSON(fault, path)


def _offset(body: bytes, line: int, column: int) -> int:
    """The offset in the body, in bytes, of the place that the parser names."""
    start = 0
    for _ in range(line - 1):
        start = body.find(b"\n", start) + 1
    return min(start + column, len(body))


def _path(text: bytes) -> Path:
    """The path of the value in which a text, the beginning of a JSON document, breaks off."""
    path: Path = []
    key: str | None = None
    for token in TOKEN.findall(text):
        match token:
            case b"{":
                path.append("")
            case b"[":
                path.append(0)
            case b"}" | b"]":
                path = path[:-1]
            case b",":
                if path:
                    path[-1] = path[-1] + 1 if isinstance(path[-1], int) else ""
            case b":":
                if path and key is not None:
                    path[-1] = key
            case _:
                key = _text(token)
    return [step for step in path if step != ""]


def _text(token: bytes) -> str:
    try:
        return str(from_json(token, cache_strings=False))
    except ValueError:
        return token.strip(b'"').decode("utf-8", "replace")


def outside(body: bytes) -> bytes:
    """What stands outside the strings, in a few calls of a millisecond a megabyte.

    Where the quotes of a text do not match, no parser goes further than that.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2])


def _may_be_large(bare: bytes) -> bool:
    """Whether a number may be beyond a double; the `e` of true and false does not count."""
    if b"E" in bare or bare.count(b"e") > bare.count(b"true") + bare.count(b"false"):
        return True
    return len(bare) >= DIGITS and b"0" * DIGITS in bare.translate(ALL_ZERO)


def _too_large(value: object) -> Path | None:
    """The path of the first number that no double holds."""
    if isinstance(value, dict):
        steps: Any = value.items()
    elif isinstance(value, list):
        steps = enumerate(value)
    else:
        return None if _fits(value) else []
    for step, item in steps:
        if (path := _too_large(item)) is not None:
            return [step, *path]
    return None


def _fits(value: object) -> bool:
    try:
        return not (isinstance(value, int | float) and math.isinf(value))
    except OverflowError:  # an integer
        return False
