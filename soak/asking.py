"""Asking a question as clients do: whole, streamed, or leaving before the end."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from soak.questions import Question
from tests.support.serving import SSE

JSON = {"content-type": "application/json"}
COME_AGAIN = (429, 503)


class Told(Exception):
    """The client was told that there is no whole answer: an error, or a connection that broke off."""


class Cut(Exception):
    """A stream ended without its end, and without a word."""


class ServerError(Exception):
    """A status that no client should see."""


async def ask(http: httpx.AsyncClient, question: Question, *, streamed: bool) -> tuple[str, ...]:
    """The texts of all choices, as far as they came. Raises Told, Cut and ServerError."""
    texts = [""] * len(question.prompts)
    if streamed:
        async with aclosing(pieces(http, question)) as answer:
            async for index, text in answer:
                texts[index] += text
        return tuple(texts)
    try:
        response = await http.post(question.route, content=question.body, headers=JSON)
    except httpx.TransportError as error:
        raise Told from error
    check(response)
    if question.route == "/generate":
        return (response.text,)
    for choice in response.json()["choices"]:
        texts[choice["index"]] = choice["text"] if "text" in choice else choice["message"]["content"]
    return tuple(texts)


async def leave(http: httpx.AsyncClient, question: Question, after: int) -> tuple[str, ...]:
    """What came in the first pieces of a stream that the client leaves then. Raises as `ask` does."""
    texts = [""] * len(question.prompts)
    async with aclosing(pieces(http, question)) as answer:
        async for index, text in answer:
            texts[index] += text
            after -= 1
            if after <= 0:
                break
    return tuple(texts)


async def pieces(http: httpx.AsyncClient, question: Question) -> AsyncGenerator[tuple[int, str], None]:
    """The texts of a stream, each with the index of its choice, up to its end. Raises as `ask` does."""
    native = question.route == "/generate"
    body = question.body if native else question.body[:-1] + ', "stream": true}'
    try:
        async with http.stream("POST", question.route, content=body, headers=SSE | JSON) as response:
            if response.status_code != 200:
                await response.aread()
            check(response)
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("event: error"):
                    raise Told
                if not line.startswith("data: "):
                    continue
                data = json.loads(line[6:])
                if "error" in data:
                    raise Told
                if native:
                    yield 0, data.get("text", "")
                    continue
                for choice in data["choices"]:
                    yield choice["index"], choice["text"] if "text" in choice else choice["delta"].get("content") or ""
    except httpx.TransportError as error:
        raise Told from error
    raise Cut


def check(response: httpx.Response) -> None:
    """Raises Told for a 429 or 503 that says when to come again, and ServerError for all others but 200."""
    if response.status_code in COME_AGAIN and "retry-after" in response.headers:
        raise Told
    if response.status_code != 200:
        raise ServerError(f"{response.status_code}: {response.text[:200]}")
