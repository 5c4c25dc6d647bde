"""Requests to a service, and its answers put together."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import connect_sse

from tests.support.demo import MODEL, PROMPT
from tests.support.serving import SSE, Service
from tests.support.wire import post

LONG = {"prompt": PROMPT, "max_tokens": 1024}
NO_REUSE = httpx.Limits(max_keepalive_connections=0)
"""A connection for each request.

Of those that it keeps, httpcore (1.0.9, connection_pool.py) closes what is over 20, or idle for 5 seconds: several in a
row, and meanwhile a request may have been given one. And the service closes what is idle for 5 seconds.
"""


def stream_events(service: Service, body: dict[str, Any]) -> list[str]:
    """The data of each server-sent event of an answer."""
    with (
        httpx.Client(base_url=service.url, timeout=60) as client,
        connect_sse(client, "POST", "/generate", json=body, headers=SSE) as source,
    ):
        return [event.data for event in source.iter_sse()]


def read_events(data: list[str]) -> tuple[str, dict[str, Any]]:
    """The text, and the event that ends it."""
    *texts, finish, done = data
    assert done == "[DONE]"
    return "".join(json.loads(item)["text"] for item in texts), json.loads(finish)


def ask(question: str, **fields: Any) -> dict[str, Any]:
    """A request's body."""
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **fields}


def connect(service: Service, path: str, body: dict[str, Any], accept: str) -> socket.socket:
    """A request on a socket of its own."""
    host, port = service.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(post(path, json.dumps(body).encode(), f"accept: {accept}"))
    return connection


@asynccontextmanager
async def timeout(limit_s: float) -> AsyncIterator[None]:
    """Fail if the block takes longer; it must wait for something."""
    task = asyncio.current_task()
    assert task
    timer = asyncio.get_running_loop().call_later(limit_s, task.cancel, f"longer than {limit_s} s")
    try:
        yield
    finally:
        timer.cancel()
