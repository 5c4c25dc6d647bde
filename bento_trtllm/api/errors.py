"""Errors as HTTP clients see them: a status, a kind, one sentence."""

import logging
from dataclasses import dataclass, field

from bento_trtllm.errors import BentoTRTLLMError, CheckpointError
from bento_trtllm.generation.deadlines import EngineTimeout, EngineUnavailable
from bento_trtllm.text.tokenizer import TextTooLong
from bento_trtllm.triton.wire.failures import RequestRefused

logger = logging.getLogger(__name__)


@dataclass
class APIError(Exception):
    """An answer that is not 200. `kind` is stable and for programs, `message` is for people.

    `param` and `code` are OpenAI's: the field that is wrong, and a name for what is wrong with it.
    """

    status: int
    kind: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    param: str | None = None
    code: str | None = None

    def body(self) -> dict[str, object]:
        """The JSON body of the response, and the data of an SSE error event."""
        return {"error": {"type": self.kind, "message": self.message}}


class StreamCut(BaseException):
    """Ends a response without its closing chunk, so that no client takes a part for the whole.

    Not an Exception: BentoML catches those while it streams, logs them, and ends the response as if it were
    complete (_bentoml_sdk/io_models.py, 1.4.39).
    """


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> APIError:
    """400: the request cannot be served as it is."""
    return APIError(400, "invalid_request", message, param=param, code=code)


def unavailable(message: str, retry_after_s: int = 2) -> APIError:
    """503: the engine is down or starting; worth another try."""
    return APIError(503, "engine_unavailable", message, {"Retry-After": str(retry_after_s)})


def from_engine(error: Exception) -> APIError:
    """What a client is told of an error of the Triton client."""
    if isinstance(error, RequestRefused | CheckpointError):  # the latter from a chat template
        return bad_request(str(error))
    if isinstance(error, TextTooLong):
        return bad_request(f"{error} That is more than the model's context holds.", code="context_length_exceeded")
    if isinstance(error, EngineUnavailable):
        return unavailable(str(error))
    if isinstance(error, EngineTimeout):
        return APIError(504, "timeout", str(error))
    return APIError(500, "internal_error", "The answer failed: see the server's log.")


def describe(error: Exception) -> APIError:
    """What a client is told of any error; one that nobody foresaw is logged."""
    if isinstance(error, APIError):
        return error
    if not isinstance(error, BentoTRTLLMError):
        logger.exception("An answer failed")
    return from_engine(error)
