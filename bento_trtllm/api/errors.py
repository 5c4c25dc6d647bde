"""Errors as HTTP clients see them: a status, a kind, one sentence. Which, only the table here decides."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bento_trtllm.errors import BentoTRTLLMError, CheckpointError
from bento_trtllm.generation.engine_request import CONTEXT_EXCEEDED
from bento_trtllm.generation.errors import (
    INTERNAL_ERROR,
    Draining,
    EngineTimeout,
    EngineUnavailable,
    GenerationError,
    InvalidRequest,
    LineFull,
    RequestRefused,
    WaitedTooLong,
)
from bento_trtllm.text.tokenizer import TextTooLong

logger = logging.getLogger(__name__)


@dataclass
class APIError(Exception):
    """An answer that is not 200. `kind` is stable and for programs, `message` is for people.

    `param` and `code` are OpenAI's: the field that is wrong, and a name for what is wrong with it. `tensor` is the
    engine's input that is wrong, where it was the engine that refused.
    """

    status: int
    kind: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None
    tensor: str | None = None

    def body(self) -> dict[str, object]:
        """The JSON body of the response, and the data of an SSE error event."""
        return {"error": {"type": self.kind, "message": self.message}}


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
    Row(LineFull, 429, {"Retry-After": "1"}),
    Row(WaitedTooLong, 503, {"Retry-After": "5"}),
    # The next request of this client is for another server.
    Row(Draining, 503, {"Retry-After": "10", "Connection": "close"}),
    Row(EngineUnavailable, 503, {"Retry-After": "2"}),
    Row(EngineTimeout, 504),
)
"""The first row that fits counts. An error without one is a 500, of which clients are told nothing."""
NAMES = {"grammar": "response_format", "bias": "logit_bias", "input_ids": "prompt", "ignore_end": "ignore_eos"}
"""Parameters of the core that the API calls otherwise."""


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> APIError:
    """400: the request cannot be served as it is."""
    return APIError(400, InvalidRequest.kind, message, param=param, code=code)


def describe(error: Exception) -> APIError:
    """What a client is told of any error; one that nobody foresaw is logged."""
    if isinstance(error, APIError):
        return error
    if not isinstance(error, BentoTRTLLMError):
        logger.exception("An answer failed")
    row = next((row for row in TABLE if isinstance(error, row.error)), None)
    if row is None:
        return APIError(500, INTERNAL_ERROR, "The answer failed: see the server's log.")
    kind = error.kind if isinstance(error, GenerationError) else InvalidRequest.kind
    told = APIError(row.status, kind, str(error), dict(row.headers))
    if isinstance(error, TextTooLong):
        told.message += " That is more than the model's context holds."
        told.code = CONTEXT_EXCEEDED
    if isinstance(error, InvalidRequest):
        told.param = NAMES.get(error.field, error.field) if error.field else None
        told.code = error.code
    if isinstance(error, RequestRefused):
        told.tensor = error.tensor
    return told
