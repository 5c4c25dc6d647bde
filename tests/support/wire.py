"""Requests as bytes, for what no client library sends."""

import http.client
import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.limits import LIMIT_S


@dataclass
class Answer:
    """A response, and whether the connection was reset after it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def parse(data: bytes) -> Answer:
    """The first response in what was received."""
    return read_one(_Bytes(data))


def read_one(connection: "socket.socket | _Bytes") -> Answer:
    """The next response, however many pieces it comes in; the connection stays open."""
    response = http.client.HTTPResponse(connection)  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@contextmanager
def connect(url: str, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection to a service, from one of the loopback addresses."""
    parts = urlsplit(url)
    address = (str(parts.hostname), int(parts.port or 80))
    with socket.create_connection(address, timeout=LIMIT_S, source_address=(source, 0)) as connection:
        yield connection


def receive(connection: socket.socket) -> bytes:
    """All that comes until the server closes. Raises ConnectionResetError if it resets."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def ask(url: str, request: bytes) -> Answer:
    """Send bytes, and read the answer until the server closes."""
    with connect(url) as connection:
        connection.sendall(request)
        return parse(receive(connection))


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed, with nothing said but what came before."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def post(path: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    """A POST of JSON, after which the server closes."""
    head = [f"POST {path} HTTP/{version}", "host: localhost", "content-type: application/json"]
    head += [f"content-length: {len(body)}", "connection: close", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def get(path: str, *lines: str, version: str = "1.1") -> bytes:
    """A GET, after which the server closes."""
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: localhost", "connection: close", *lines, "", ""]).encode()
