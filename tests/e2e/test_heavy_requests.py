"""No request holds the others: what asks for much is refused, or done beside them, while light ones go on."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Event as EventType
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Service
from tests.unit.test_grammar import ADMITTED, LARGE, doubled, many, nested

LIGHT = {"model": "demo-llama", "prompt": "Say hello", "max_tokens": 2, "temperature": 0}
CHAT: dict[str, Any] = {"model": "demo-llama", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
SAMPLES = 150
# A light request takes some milliseconds alone on two cores, and abuse takes one of the two.
LIMIT_S = 0.05
# What parts of an engine and a worker may grow by while they do all of this, in bytes.
GROWTH = 400 * 2**20


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def chat(**fields: Any) -> bytes:
    return json.dumps(CHAT | fields).encode()


def user(content: Any) -> bytes:
    return chat(messages=[{"role": "user", "content": content}])


numbers = itertools.count()


def fresh(schema: Callable[[int], Any]) -> Callable[[], bytes]:
    """A request with a schema that nobody sent before."""
    return lambda: chat(response_format=form(schema(next(numbers))), max_tokens=400)


def always(body: bytes) -> Callable[[], bytes]:
    return lambda: body


SIZE = 4_000_000
DATES = many(lambda k: {"type": "string", "format": "date-time"}, 200, required=False)
OPTIONAL = many(lambda k: {"type": "integer"}, 200, required=False)
ABUSE: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "nested arrays": (always(chat(response_format=form(nested(3, {"type": "integer"}, minItems=128)))), {400}),
    "doubled references": (always(chat(response_format=form(doubled(20)))), {400}),
    "900 optional properties": (always(chat(response_format=form(LARGE["optional properties"][0]))), {400}),
    "an enum of 100,000": (always(chat(response_format=form({"enum": [str(i) for i in range(100_000)]}))), {400, 413}),
    "4 MB of text": (always(user("word " * (SIZE // 5))), {400}),
    "4 MB of one letter": (always(user("x" * SIZE)), {400}),
    "4 MB of digits": (always(user(("1" * 209 + "a") * (SIZE // 210))), {400}),
    "4 MB of control tokens": (always(user("<|eot_id|>" * (SIZE // 10))), {400}),
    "4 MB of parts": (always(user([{"type": "text", "text": "a"}] * (SIZE // 32))), {413}),
    "4 MB of lists": (always(b'{"messages": [' + b"[]," * (SIZE // 3) + b"[]]}"), {413}),
    "as many parts as are taken": (always(user([{"type": "text", "text": "a"}] * 9_000)), {400}),
    "400 kB of text": (always(user("word " * 80_000)), {400}),
    "all biases": (always(chat(logit_bias={str(i): -100 for i in range(39_000)})), {400}),
    "1900 constants": (fresh(lambda i: {"oneOf": [{"const": 10_000 * i + k} for k in range(1900)]}), {200}),
    "200 dates": (fresh(lambda i: {"properties": {f"x{i}": DATES}}), {200}),
    "long strings": (fresh(lambda i: many(lambda k: {"type": "string", "maxLength": 10_000 - i - k}, 4)), {200}),
    "128 lengths": (fresh(lambda i: {"properties": {f"x{i}": ADMITTED["different lengths"]}}), {200}),
    "200 optional properties": (fresh(lambda i: {"properties": {f"x{i}": OPTIONAL}}), {200}),
    "many names": (fresh(lambda i: {"enum": [f"{k * 7919 % 1009} words {i} {k}" for k in range(1000)]}), {200}),
}


def post(client: httpx.Client, body: bytes) -> int:
    return client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"}).status_code


def light(client: httpx.Client) -> float:
    began = time.monotonic()
    assert client.post("/v1/completions", json=LIGHT).status_code == 200
    return time.monotonic() - began


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def repeat(url: str, name: str, begun: EventType, ended: EventType, found: "Queue[int]") -> None:
    """Send a request again and again."""
    body, _ = ABUSE[name]
    with httpx.Client(base_url=url, timeout=60) as client:
        while not ended.is_set():
            found.put(post(client, body()))
            begun.set()


@contextmanager
def repeated(service: Service, name: str) -> Iterator[None]:
    """Such requests meanwhile, from a process of their own: writing them is work, too."""
    context = get_context("spawn")
    begun, ended, found = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=repeat, args=(service.url, name, begun, ended, found))
    process.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        ended.set()
        statuses = {found.get(timeout=60)}
        process.join(60)
    while not found.empty():
        statuses.add(found.get())
    assert statuses <= ABUSE[name][1]


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.mark.parametrize(("body", "statuses"), ABUSE.values(), ids=ABUSE.keys())
def test_it_is_answered_or_refused(client: httpx.Client, body: Callable[[], bytes], statuses: set[int]) -> None:
    for _ in range(2):
        assert post(client, body()) in statuses


@pytest.mark.measured
@pytest.mark.parametrize("name", ABUSE)
def test_light_requests_go_on(service: Service, client: httpx.Client, name: str) -> None:
    alone = p99([light(client) for _ in range(SAMPLES)])
    with repeated(service, name):
        beside = p99([light(client) for _ in range(SAMPLES)])
    print(f"light p99 {alone * 1e3:.1f} ms alone, {beside * 1e3:.1f} ms beside {name}")
    assert beside < max(LIMIT_S, 3 * alone)


@pytest.mark.measured
def test_memory_is_given_back(service: Service, client: httpx.Client) -> None:
    """What requests claim, whose clients leave at once, does not add up."""

    def claim() -> None:
        for body, _ in ABUSE.values():
            with suppress(httpx.ReadTimeout):
                client.post(
                    "/v1/chat/completions",
                    content=body(),
                    headers={"content-type": "application/json"},
                    timeout=httpx.Timeout(60, read=0.05),
                )

    def held() -> int:
        processes = [service.process, *service.process.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes if process.is_running())

    for _ in range(3):
        claim()
    before = held()
    for _ in range(10):
        claim()
    deadline = time.monotonic() + 60
    while service.active() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not service.active()
    grown = held() - before
    print(f"grown by {grown / 2**20:.0f} MiB")
    assert grown < GROWTH
