"""One request and its response in uvicorn's httptools protocol: what ends the connection is told, and how.

Responses in HTTP/1.0 end differently here, and so do those that come before the end of a long request.
"""

import socket
import struct
from contextlib import suppress
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bento_trtllm.api.asgi import Message

# How much is read of a body whose request was already answered.
MAX_DISCARDED_BYTES = 8 * 2**20


class EarlyCycle(RequestResponseCycle):
    """A request that may be answered before it ends, and is not sure to be read to its end then.

    Who is told nothing sends the next request behind the body, and finds the connection reset (RFC 9112, 9.6). uvicorn
    would close at the end of the response: what is unread then resets the connection, and the response may be lost.
    """

    closes_at_end = False
    """The response has been given; the connection is to be closed when the request ends."""

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """ASGI's send."""
        if self.more_body:
            if message["type"] == "http.response.start":
                self.keep_alive = False  # which uvicorn tells the client
            elif not message.get("more_body", False):
                self.keep_alive = self.closes_at_end = True
        await super().send(cast("Any", message))


class ClosingCycle(EarlyCycle):
    """A request in HTTP/1.0, which has no chunked encoding: a response of unknown length ends with the connection.

    If it is cut, or the worker dies, the connection is reset instead, so that the client's read fails: until the
    response is complete, the socket is set to do so (SO_LINGER of 0 seconds, socket(7)).
    """

    _until_close = False

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """ASGI's send. uvicorn would write chunks."""
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            if b"content-length" not in names:
                self._until_close = True
                self.chunked_encoding = False
                self._reset_at_close(True)
        elif self._until_close:
            self.expected_content_length = len(message.get("body", b""))
            if not message.get("more_body", False):
                self._reset_at_close(False)
        await super().send(cast("Any", message))

    def _reset_at_close(self, reset: bool) -> None:
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):  # closed by the client
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))


def cycle(*, scope: Any, **options: Any) -> RequestResponseCycle:
    """One request and its response, for uvicorn."""
    if scope["http_version"] == "1.0":
        return ClosingCycle(scope=scope, **options)
    early = not options["keep_alive"] or options["expect_100_continue"] or _long(scope["headers"])
    return (EarlyCycle if early else RequestResponseCycle)(scope=scope, **options)


def _long(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body may have more than is read for nothing."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) > MAX_DISCARDED_BYTES
        if name == b"transfer-encoding":
            return True
    return False
