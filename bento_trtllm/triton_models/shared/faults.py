"""Why an engine model ends a request without its answer: a code, the tensor at fault, and a sentence.

Triton hands on one text, so they travel as `[code tensor] sentence`, or `[code] sentence` where no tensor is at fault:

    [invalid_request temperature] temperature is -1.0: it must lie between 0.0 and 1000000.0.

This is the one place that writes and reads that form; it is copied beside the models, which stand alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INVALID_REQUEST = "invalid_request"
"""The request's own fault, whatever engine it meets."""
UNAVAILABLE = "unavailable"
"""The engine takes nothing now, and has not failed."""
CANCELLED = "cancelled"
"""The client has left, or asked for the request's end."""
FAILED = "failed"
"""The engine's own fault."""
FORM = re.compile(r"\[(invalid_request|unavailable|cancelled|failed)(?: (\w+))?\] (.*)", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """`str` gives the text for Triton, `read` takes it apart again."""

    code: str
    message: str
    tensor: str = ""

    def __str__(self) -> str:
        tensor = f" {self.tensor}" if self.tensor else ""
        return f"[{self.code}{tensor}] {self.message}"

    @classmethod
    def read(cls, text: str) -> Fault | None:
        """None for a text of another form, which is not from an engine model of ours."""
        if (found := FORM.fullmatch(text)) is None:
            return None
        code, tensor, message = found.groups()
        return cls(code, message, tensor or "")


GONE = Fault(CANCELLED, "The request was cancelled.")


class RequestError(ValueError):
    """A request that an engine model refuses, in one sentence, with the tensor that is at fault."""

    def __init__(self, tensor: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(INVALID_REQUEST, message, tensor)
