"""Why an answer could not be given, or not completed.

What a client gets for each (status, headers, body) is defined in one place, api/errors.py.
"""

from typing import ClassVar

from bento_trtllm.errors import BentoTRTLLMError

INTERNAL_ERROR = "internal_error"
"""The kind of an unexpected error."""


class GenerationError(BentoTRTLLMError):
    """The base class. `kind` is a stable name for programs, used in error bodies and as an outcome in the metrics."""

    kind: ClassVar[str] = INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(GenerationError):
    """The request cannot be served as it is, by any server.

    `field` is the parameter at fault, as Sampling and GenerationRequest call it; `code` names what is wrong with it.
    """

    kind = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class RequestRefused(InvalidRequest):
    """The engine refuses the request, and the request is at fault.

    `tensor` is the engine's input at fault, if the engine names it.
    """

    def __init__(self, message: str, *, tensor: str | None = None) -> None:
        super().__init__(message)
        self.tensor = tensor


class Overloaded(GenerationError):
    """There are too many requests to take one more; the subclass says why."""

    kind = "overloaded"


class QueueFull(Overloaded):
    """The queue for the engine is full; `retry_s` is when it is worth to try again, in whole seconds."""

    def __init__(self, message: str, retry_s: int = 1) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class WaitedTooLong(Overloaded):
    """The request was queued for as long as it may be."""


class EngineUnavailable(GenerationError):
    """The engine is down, starting, or ended while it was answering."""

    kind = "engine_unavailable"


class Draining(EngineUnavailable):
    """This server is stopping and takes no more requests; another one may."""

    def __init__(self) -> None:
        super().__init__("The server is stopping.")


class EngineTimeout(GenerationError):
    """The engine took longer than the deadline."""

    kind = "timeout"


def kind_of(error: Exception) -> str:
    """The kind of any error."""
    return error.kind if isinstance(error, GenerationError) else INTERNAL_ERROR
