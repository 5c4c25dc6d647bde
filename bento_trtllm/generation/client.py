"""Whom a request is for: slots are shared among clients, and not among their requests."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """One of those that share the slots: the name of a key, or an address.

    Of two that want more than there is, each gets slots in proportion to its weight, and never more than `max_running`.
    """

    name: str
    weight: float = 1.0
    max_running: float = float("inf")


ANYONE = Client("")
CLIENT: ContextVar[Client] = ContextVar("client", default=ANYONE)
"""The client of the request being served."""


def turn(running: float, weight: float) -> float:
    """Whose is least is next: so seats go by votes with Sainte-Laguë, which favours neither heavy nor light ones."""
    return (running + 0.5) / weight
