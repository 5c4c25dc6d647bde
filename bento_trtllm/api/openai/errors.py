"""OpenAI's error object, and which fields of a request an error is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from bento_trtllm.api.errors import APIError, bad_request
from bento_trtllm.errors import BentoTRTLLMError
from bento_trtllm.triton_models.shared.parameters import API_FIELDS

# OpenAI's names, by status; its client libraries choose the exception by the status. All others are
# invalid_request_error or, from 500 on, server_error.
TYPES = {429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
# What pydantic calls a fault, and what OpenAI does.
FAULTS = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
FORESEEN = (BentoTRTLLMError,)


def body(error: APIError) -> dict[str, object]:
    """The JSON of an error."""
    kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param, message = error.param, error.message
    if error.tensor and error.tensor in API_FIELDS:
        param = API_FIELDS[error.tensor]
        # Where the sentence begins with the tensor's name, which clients need not know.
        if message.startswith(error.tensor):
            message = f"{param}: {message}"
    code = error.code or CODES.get(error.status, None if error.status < 500 else error.kind)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response(error: APIError) -> JSONResponse:
    """An error as the whole response."""
    return JSONResponse(body(error), error.status, error.headers)


def from_faults(faults: Sequence[Mapping[str, Any]], request: object) -> APIError:
    """What is wrong with a request's body, by one of the faults that pydantic found in it."""
    # Where several types are allowed, each has its fault; the one that is deepest in the request says most.
    paths = [_path(fault["loc"][1:], request, fault["type"]) for fault in faults]
    path, fault = max(zip(paths, faults, strict=True), key=lambda pair: len(pair[0]))
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    kind = fault["type"]
    if not isinstance(request, dict):
        return bad_request("The body must be a JSON object, sent with `content-type: application/json`.")
    message = {"extra_forbidden": "this field is not known, or not supported", "missing": "this field is required"}
    code = FAULTS.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return bad_request(f"{param}: {message.get(kind, fault['msg'])}.", param=param or None, code=code)


def _path(loc: Sequence[int | str], request: Any, kind: str) -> list[int | str]:
    """The steps of a pydantic location that are in the request; the others are names of types."""
    path: list[int | str] = []
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(request, dict) and (step in request or (last and kind == "missing")):
            path.append(step)
            request = request.get(step)
        elif isinstance(request, list) and isinstance(step, int) and step < len(request):
            path.append(step)
            request = request[step]
    return path
