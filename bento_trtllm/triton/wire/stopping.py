"""Ends requests in the engine by their ids, rather than by cancelling their calls.

Triton waits for itself for ever, or crashes, where a call is cancelled that it is answering in that moment
(docs/reliability.md). A request that the engine ends has its last response, and its call ends as any other.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import TypeAlias

import grpc.aio

from bento_trtllm.triton.wire.codec import stop
from bento_trtllm.triton.wire.probe import END_LIMIT_S

Call: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"


class Stopping:
    """The requests of one channel that may be ended so."""

    def __init__(self, send: Callable[[bytes, float], Call]) -> None:
        """`send` begins a call, with a message and the seconds that it may take."""
        self._send = send
        self._prefix = secrets.token_hex(8)
        self._numbers = count()
        self._ids: list[str] = []
        """To be ended in the next turn of the event loop."""
        self._calls: set[Call] = set()
        """One that nobody holds is cancelled."""

    def new_id(self) -> str:
        """An id that no other request has, whichever worker sends it."""
        return f"{self._prefix}-{next(self._numbers)}"

    def stop(self, request_id: str) -> None:
        """Have the engine end that request; with those that are to end in the same moment, since a call costs Triton
        and the engine more than an id."""
        if not self._ids:
            asyncio.get_running_loop().call_soon(self._tell)
        self._ids.append(request_id)

    def _tell(self) -> None:
        ids, self._ids = self._ids, []
        with suppress(grpc.aio.UsageError):  # the channel is closed, and all that went through it has ended
            # Nobody reads a refusal, with which the call would stay.
            call = self._send(stop(ids).SerializeToString(), END_LIMIT_S)
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
