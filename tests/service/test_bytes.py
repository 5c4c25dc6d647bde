"""Byte for byte: what a client puts together is what the tokenizer makes of all tokens at once.

The texts are the demo model's, in every script; and one that no model would write, in which every token of the demo
model's vocabulary comes, in random order.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import bentoml
import httpx
import pytest

from tests.support.asking import NO_REUSE
from tests.support.demo import ANSWERS, SCRIPTS
from tests.support.ensemble import ask, text_input
from tests.support.serving import DEMO, SSE, Service, free_port, pack, serve
from tests.support.walk import Walk, write_walk

CROWD = 64


@dataclass(frozen=True)
class Question:
    """One request, and the answer to it."""

    prompt: str
    text_input: str
    """The same for the ensemble."""
    max_tokens: int
    text: str
    tokens: bytes
    """Of all tokens of the answer; the text, except where they are not UTF-8."""


Pieces = list[bytes]
Client = Callable[[Service, list[Question]], list[Pieces]]
"""Asks all questions at once."""


def posts(service: Service, questions: list[Question], headers: dict[str, str]) -> list[Pieces]:
    """The bodies, as TCP happened to cut them: nothing has decoded them."""

    async def post(client: httpx.AsyncClient, question: Question) -> Pieces:
        body = {"prompt": question.prompt, "max_tokens": question.max_tokens}
        async with client.stream("POST", "/generate", json=body, headers=headers) as response:
            assert response.status_code == 200
            return [chunk async for chunk in response.aiter_raw()]

    async def gather() -> list[Pieces]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=NO_REUSE) as client:
            return await asyncio.gather(*(post(client, question) for question in questions))

    return asyncio.run(gather())


def events(service: Service, questions: list[Question]) -> list[Pieces]:
    """The text of each server-sent event."""

    def texts(body: bytes) -> Pieces:
        *pieces, finish, done, rest = body.decode().split("\n\n")
        assert json.loads(finish.removeprefix("data: "))["finish_reason"] in {"stop", "length"}
        assert (done, rest) == ("data: [DONE]", "")
        # A lone surrogate, which JSON can hold, has no UTF-8.
        return [json.loads(piece.removeprefix("data: "))["text"].encode() for piece in pieces]

    return [texts(b"".join(chunks)) for chunks in posts(service, questions, SSE)]


def bare(service: Service, questions: list[Question]) -> list[Pieces]:
    return posts(service, questions, {})


def bentoml_client(service: Service, questions: list[Question]) -> list[Pieces]:
    """It decodes each chunk by itself, and fails where that is no UTF-8."""
    with bentoml.SyncHTTPClient(service.url) as client, ThreadPoolExecutor(len(questions)) as threads:

        def run(question: Question) -> Pieces:
            stream = client.generate(prompt=question.prompt, max_tokens=question.max_tokens)
            return [piece.encode() for piece in stream]

        return list(threads.map(run, questions))


def ensemble(service: Service, questions: list[Question]) -> list[Pieces]:
    """A piece may end inside a character: these are raw bytes."""
    texts = [question.text_input for question in questions]
    return ask(service.grpc_address(), texts, max_tokens=questions[0].max_tokens)


def check(client: Client, service: Service, questions: list[Question]) -> int:
    """Returns the most pieces that an answer came in: on a busy machine a short one may come in one."""
    replies = client(service, questions)
    for question, pieces in zip(questions, replies, strict=True):
        if client is ensemble:
            assert b"".join(pieces) == question.tokens
        else:
            assert b"".join(pieces).decode() == question.text
            assert all(pieces)
    return max(map(len, replies))


CLIENTS = pytest.mark.parametrize("client", [events, bare, bentoml_client, ensemble])


def script(prompt: str) -> Question:
    text = ANSWERS[prompt]
    return Question(prompt, text_input(prompt), 1024, text, text.encode())


def test_every_script_alone(open_service: Service) -> None:
    """The other clients have theirs in test_generate and test_ensemble."""
    assert max(check(bare, open_service, [script(prompt)]) for prompt in SCRIPTS.values()) > 1


@CLIENTS
def test_every_script_in_a_crowd(open_service: Service, client: Client) -> None:
    assert check(client, open_service, list(islice(cycle(map(script, SCRIPTS.values())), CROWD))) > 1


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return Walk(write_walk(tmp_path_factory.mktemp("walk"), DEMO))


@pytest.fixture(scope="module")
def walking(home: Path, walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    tag = pack(home, "walk:test", walk.directory)
    options = ("--arg", f"model={tag}", "--arg", f"grpc_port={free_port()}")
    with serve(home, tmp_path_factory.mktemp("walking") / "log.txt", *options) as service:
        service.wait_ready()
        yield service


def walks(walk: Walk, count: int, length: int) -> list[Question]:
    """Answers in which every token of the vocabulary comes."""
    questions, seen = [], set()
    for prompt in walk.prompts(count):
        tokens = walk.answer(prompt, length)
        seen.update(tokens)
        questions.append(Question(prompt, prompt, length, walk.tokenizer.decode(tokens), walk.bytes(tokens)))
    assert seen == set(walk.tokens)
    return questions


@CLIENTS
def test_every_token_alone(walking: Service, walk: Walk, client: Client) -> None:
    for question in walks(walk, 3, 1024):
        assert check(client, walking, [question]) > 1


@CLIENTS
def test_every_token_in_a_crowd(walking: Service, walk: Walk, client: Client) -> None:
    assert check(client, walking, walks(walk, CROWD, 128)) > 1
