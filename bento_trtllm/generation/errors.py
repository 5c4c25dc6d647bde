"""Why an answer could not be given, or not to its end.

What a client is told of each (status, headers, body) is said once, in api/errors.py.
"""

from typing import ClassVar

from bento_trtllm.errors import BentoTRTLLMError

INTERNAL_ERROR = "internal_error"
"""The kind of an error that nobody foresaw."""


class GenerationError(BentoTRTLLMError):
    """The base of all. `kind` is a stable name for programs: bodies of errors and the metrics' outcomes have it."""

    kind: ClassVar[str] = INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(GenerationError):
    """The request cannot be served as it is, by anybody.

    `field` is the parameter at fault, as Sampling and GenerationRequest call it; `code` is a name for what is wrong
    with it.
    """

    kind = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class RequestRefused(InvalidRequest):
    """The engine does not take the request, and that is the request's fault.

    `tensor` is the input of the engine that is at fault, where the engine names it.
    """

    def __init__(self, message: str, *, tensor: str | None = None) -> None:
        super().__init__(message)
        self.tensor = tensor


class Overloaded(GenerationError):
    """There are too many requests for one more: see which of the two."""

    kind = "overloaded"


class LineFull(Overloaded):
    """All places in line for the engine are taken."""


class WaitedTooLong(Overloaded):
    """The request was in line for as long as it may be."""


class EngineUnavailable(GenerationError):
    """The engine is down, starting, or ended while it answered."""

    kind = "engine_unavailable"


class Draining(EngineUnavailable):
    """This server is stopping and takes no more requests; another may."""

    def __init__(self) -> None:
        super().__init__("The server is stopping.")


class EngineTimeout(GenerationError):
    """The engine took longer than the deadline."""

    kind = "timeout"


def kind_of(error: Exception) -> str:
    """The kind of any error."""
    return error.kind if isinstance(error, GenerationError) else INTERNAL_ERROR
