"""A client of streamed HTTP answers, cheap enough not to be what is measured: one connection, no HTTP library."""

import asyncio
import json
import re
import time

TAIL = 600
COUNT = re.compile(rb'"completion_tokens":\s*(\d+)')
# The first text of a chat; a chunk with the role alone is not the first token.
CONTENT = re.compile(rb'"content":\s*"[^"]')


def request(host: str, path: str, body: dict[str, object], accept: str) -> bytes:
    """The bytes of a POST with a JSON body."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {len(data)}\r\n\r\n".encode() + data


class Connection(asyncio.Protocol):
    """Requests one after another on one connection; the answer's body must be chunked."""

    def __init__(self, chat: bool = False) -> None:
        self._chat = chat
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self.arrivals: list[float] = []
        """When each part of the text came."""
        self.size = 0
        """Bytes of the body."""
        self.tail = b""
        """The body's end."""
        self.status = 0
        self.head = b""
        """Of an answer that is none."""
        self._pending = b""

    @property
    def completion_tokens(self) -> int | None:
        """What the answer's last events say; None for an answer that did not end well."""
        found = COUNT.findall(self.tail)
        return int(found[-1]) if found and b"[DONE]" in self.tail else None

    async def ask(self, message: bytes) -> float:
        """Send a request and wait for the end of its answer; returns when it was sent. Raises OSError."""
        assert self._transport
        self._reset()
        self._done = asyncio.get_running_loop().create_future()
        sent = time.monotonic()
        self._transport.write(message)
        await self._done
        return sent

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionError(f"the connection broke off: {exc}"))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._pending + data if self._pending else data
        at = 0
        if not self.status:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self._pending = data
                return
            self.status = int(data[9:12])
            if self.status != 200:
                self.head = data[:at]
                self._end(ConnectionError(f"the server answered {self.status}: {data[at:]!r}"))
                return
        body = b""
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            if len(data) < line + 4 + size:
                break
            body += data[line + 2 : line + 2 + size]
            at = line + 4 + size
            if not size:
                self._take(body, now)
                self._end(None)
                return
        self._pending = data[at:]
        self._take(body, now)

    def _take(self, body: bytes, now: float) -> None:
        if not body:
            return
        self.size += len(body)
        self.tail = (self.tail + body)[-TAIL:]
        if self.arrivals or not self._chat or CONTENT.search(body):
            self.arrivals.append(now)

    def _end(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            if error:
                self._done.set_exception(error)
            else:
                self._done.set_result(None)
