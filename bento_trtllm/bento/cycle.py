"""One request and its response in uvicorn's httptools protocol; HTTP/1.0 responses end differently here."""

import socket
import struct
from contextlib import suppress
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bento_trtllm.api.asgi import Message


class ClosingCycle(RequestResponseCycle):
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
    kind = ClosingCycle if scope["http_version"] == "1.0" else RequestResponseCycle
    return kind(scope=scope, **options)
