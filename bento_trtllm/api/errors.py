"""Errors as HTTP clients see them: a status, a kind, one sentence. Only the table here decides which."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bento_trtllm.api import request_id
from bento_trtllm.errors import BentoTRTLLMError, CheckpointError
from bento_trtllm.generation.engine_request import CONTEXT_EXCEEDED
from bento_trtllm.generation.errors import (
    INTERNAL_ERROR,
    Draining,
    EngineTimeout,
    EngineUnavailable,
    GenerationError,
    InvalidRequest,
    QueueFull,
    RequestRefused,
    WaitedTooLong,
)
from bento_trtllm.text.tokenizer import TextTooLong
from bento_trtllm.triton_models.shared.parameters import API_FIELDS

logger = logging.getLogger(__name__)

# OpenAI's names, by status; its client libraries choose the exception by the status. All others are
# invalid_request_error or, from 500 on, server_error.
TYPES = {429: "rate_limit_error"}
# OpenAI's codes for kinds that it calls otherwise; of all others the kind is the code.
CODES = {"unauthorized": "invalid_api_key", "overloaded": "rate_limit_exceeded", "invalid_request": "invalid_value"}


# An error quotes names and values of clients, and must not become as long as those can be.
MOST_WORDS, MOST_OF_A_NAME = 1000, 200


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass
class APIError(Exception):
    """An answer that is not 200. `kind` is our name for it, `message` is for people.

    `param` and `code` are OpenAI's: the field that is wrong, and a name for what is wrong, which is stable and for
    programs. `tensor` is the engine's input that is wrong, where it was the engine that refused.
    """

    status: int
    kind: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None
    tensor: str | None = None

    def __post_init__(self) -> None:
        self.message = _shortened(self.message, MOST_WORDS)
        self.param = self.param and _shortened(self.param, MOST_OF_A_NAME)

    def body(self) -> dict[str, object]:
        """The JSON body of the response, and the data of an SSE error event: OpenAI's object, on every route."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        param, message = self.param, self.message
        if self.tensor and self.tensor in API_FIELDS:
            param = API_FIELDS[self.tensor]
            # Where the sentence begins with the tensor's name, which clients need not know.
            if message.startswith(self.tensor):
                message = f"{param}: {message}"
        return {"error": {"message": message, "type": kind, "param": param, "code": self.name}}

    @property
    def name(self) -> str:
        """The code, which every error has."""
        return self.code or (CODES.get(self.kind, self.kind) if self.status < 500 else self.kind)


class StreamCut(BaseException):
    """Ends a response without its closing chunk, so that no client takes a part for the whole.

    Not an Exception: BentoML catches those while it streams, logs them, and ends the response as if it were
    complete (_bentoml_sdk/io_models.py, 1.4.40).
    """


class Row(NamedTuple):
    """What one kind of error is to a client."""

    error: type[BentoTRTLLMError]
    status: int
    headers: Mapping[str, str] = {}


TABLE = (
    Row(InvalidRequest, 400),
    Row(TextTooLong, 400),
    Row(CheckpointError, 400),  # a chat template refused the messages: other ones end the service before it serves
    Row(QueueFull, 429),
    Row(WaitedTooLong, 503, {"Retry-After": "5"}),
    # The next request of this client is for another server.
    Row(Draining, 503, {"Retry-After": "10", "Connection": "close"}),
    Row(EngineUnavailable, 503, {"Retry-After": "2"}),
    Row(EngineTimeout, 504),
)
"""The first row that fits counts. An error without one is a 500, whose cause clients are not told."""
NAMES = {"grammar": "response_format", "bias": "logit_bias", "input_ids": "prompt", "ignore_end": "ignore_eos"}
"""Parameters of the core that the API calls otherwise."""


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> APIError:
    """400: the request cannot be served as it is."""
    return APIError(400, InvalidRequest.kind, message, param=param, code=code)


def failed(status: int = 500) -> APIError:
    """What nobody foresaw: the server's log has it, by the request's id."""
    name = request_id.CURRENT.get()
    return APIError(status, INTERNAL_ERROR, f"The answer failed: see the server's log{f' for {name}' if name else ''}.")


def describe(error: Exception) -> APIError:
    """What a client is told of any error; one that nobody foresaw is logged."""
    if isinstance(error, APIError):
        return error
    if not isinstance(error, BentoTRTLLMError):
        logger.exception("An answer failed")
    row = next((row for row in TABLE if isinstance(error, row.error)), None)
    if row is None:
        return failed()
    kind = error.kind if isinstance(error, GenerationError) else InvalidRequest.kind
    told = APIError(row.status, kind, str(error), dict(row.headers))
    if isinstance(error, QueueFull):
        told.headers["Retry-After"] = str(error.retry_s)
    if isinstance(error, TextTooLong):
        told.message += " That is more than this model's maximum context length."
        told.code = CONTEXT_EXCEEDED
    if isinstance(error, InvalidRequest):
        told.param = NAMES.get(error.field, error.field) if error.field else None
        told.code = error.code
    if isinstance(error, RequestRefused):
        told.tensor = error.tensor
    return told
