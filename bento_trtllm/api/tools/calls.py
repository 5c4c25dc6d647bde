"""Calls of tools, whatever format they were written in."""

import secrets
from dataclasses import dataclass
from typing import NamedTuple


class CallableTool(NamedTuple):
    """A function's name and the JSON Schema of its parameters."""

    name: str
    parameters: dict[str, object]


@dataclass(frozen=True)
class CallDelta:
    """A part of a call. The first has `id` and `name`, the others more of the arguments."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


Delta = str | CallDelta


def new_call(index: int, name: str) -> CallDelta:
    """The first part of a call."""
    return CallDelta(index, id=f"call_{secrets.token_hex(12)}", name=name)
