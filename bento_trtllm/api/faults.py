"""What is wrong with a request's body, of the faults that pydantic found in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bento_trtllm.api.errors import APIError, bad_request
from bento_trtllm.api.json_body import Path, show

UNKNOWN = "extra_forbidden"
# What pydantic calls a fault, and what OpenAI does.
CODES = {
    "missing": "missing_required_parameter",
    UNKNOWN: "unknown_parameter",
    "unsupported_value": "unsupported_value",
}
NO_OBJECT = "The body must be a JSON object, sent with `content-type: application/json`."
# The beginning of a sentence of pydantic's about the type of a value.
SHOULD = "Input should be "


def describe(faults: Sequence[Mapping[str, Any]], request: object) -> APIError:
    """The error of a body with these faults, whose locations begin with the body's first field."""
    if not isinstance(request, dict):
        return bad_request(NO_OBJECT, code="invalid_type")
    # Where several types are allowed, each has its fault. A value of the right type that is wrong otherwise says more
    # than one of another type; then the one that is deepest in the request says most.
    found = [(_path(fault["loc"], request, fault["type"]), fault) for fault in faults]
    path, fault = max(found, key=lambda each: (not _is_of_type(each[1]), len(each[0])))
    there = [fault for where, fault in found if where == path]
    if path and fault.get("input", ...) is None:
        # null is as good as absent, and this field cannot be.
        fault = {**fault, "type": "missing"}
    kind = fault["type"]
    param = show(path)
    code = CODES.get(kind, "invalid_type" if _is_of_type(fault) else "invalid_value")
    return bad_request(f"{param}: {_sentence(fault, there)}.", param=param or None, code=code)


def _is_of_type(fault: Mapping[str, Any]) -> bool:
    return str(fault["type"]).endswith("_type")


def _sentence(fault: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> str:
    limits = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            return "this field is not known, or not supported"
        case "missing":
            return "this field is required"
        case "too_short" | "string_too_short":
            least = limits.get("min_length", 1)
            return "it must not be empty" if least == 1 else f"it must have at least {least}"
        case "union_tag_invalid":
            tag = str(limits["tag"])[:80]
            return f"its {limits['discriminator']} is {tag!r}, and must be one of {limits['expected_tags']}"
        case "too_long":
            return f"it has {limits.get('actual_length')}, and may have at most {limits.get('max_length')}"
    types = dict.fromkeys(str(each["msg"]).removeprefix(SHOULD) for each in there if _is_of_type(each))
    return f"{SHOULD}{' or '.join(types)}" if len(types) > 1 and _is_of_type(fault) else str(fault["msg"])


def _path(loc: Sequence[int | str], request: Any, kind: str) -> Path:
    """The steps of a pydantic location that are in the request; the others are names of types."""
    path: Path = []
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(request, dict) and (step in request or (last and kind == "missing")):
            path.append(step)
            request = request.get(step)
        elif isinstance(request, list) and isinstance(step, int) and step < len(request):
            path.append(step)
            request = request[step]
    return path
