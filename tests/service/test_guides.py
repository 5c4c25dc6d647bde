"""The OpenVINO engine compiles guides beside its streams, with a vocabulary as large as Llama 3's."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.serving import Service, pack, serve

WIDE = "wide-llama"
# Of each schema, so that compiling it takes as long as hundreds of the engine's steps.
LENGTH = 100
# Times its own duration that a compilation may hold a stream.
SHARE = 0.25
HEAVY_S = 0.5
ROUNDS = 5
"""The best of them counts: other processes want this machine, too."""
numbers = itertools.count()


@pytest.fixture(scope="module")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("wide")
    checkpoint = write_checkpoint(
        folder / WIDE, hidden=64, inner=160, layers=1, vocab=128_256, specials=256, context=8192, endless=True
    )
    pack(home, f"{WIDE}:test", checkpoint)
    with serve(home, folder / "log.txt", "--arg", f"model={WIDE}:test") as service:
        service.wait_ready(180)  # the tokenizer alone takes OpenVINO GenAI seconds
        yield service


def body(length: int, **fields: Any) -> dict[str, Any]:
    """A question whose answer's form nobody asked for before."""
    name = f"p{next(numbers)}"
    schema = {"properties": {name: {"type": "string", "maxLength": length}}, "required": [name]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    messages = [{"role": "user", "content": "a"}]
    return {"model": WIDE, "messages": messages, "max_tokens": 20, "response_format": form, **fields}


def ask(service: Service, request: dict[str, Any], timeout: float | httpx.Timeout = 60) -> tuple[Any, float]:
    """The answer, and the seconds it took."""
    began = time.monotonic()
    response = httpx.post(f"{service.url}/v1/chat/completions", json=request, timeout=timeout)
    took = time.monotonic() - began
    assert response.status_code == 200, response.text
    return json.loads(response.json()["choices"][0]["message"]["content"]), took


class Stream:
    """An answer without a form that goes on and on, and the pauses in it."""

    def __init__(self, service: Service) -> None:
        self._url = f"{service.url}/v1/completions"
        self._thread = threading.Thread(target=self._read)
        self._ended = threading.Event()
        self.begun = threading.Event()
        self.longest = 0.0

    def _read(self) -> None:
        request = {"model": WIDE, "prompt": "a", "ignore_eos": True, "stream": True, "max_tokens": 8000}
        while not self._ended.is_set():
            with httpx.stream("POST", self._url, json=request, timeout=60) as response:
                last = 0.0
                for _ in response.iter_raw():
                    now = time.monotonic()
                    self.longest = max(self.longest, now - last if last else 0.0)
                    last = now
                    self.begun.set()
                    if self._ended.is_set():
                        return

    def __enter__(self) -> "Stream":
        self._thread.start()
        assert self.begun.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)


def test_a_stream_goes_on_while_a_guide_is_compiled(service: Service) -> None:
    """Both slow down alike where the machine is busy: what counts is their ratio."""
    ask(service, body(2))
    shares = []
    with Stream(service) as stream:
        for _ in range(ROUNDS):
            stream.longest = 0.0
            answer, took = ask(service, body(LENGTH))
            assert len(next(iter(answer.values()))) <= LENGTH
            assert took > HEAVY_S, "the schema is to be one that takes long"
            shares.append(stream.longest / took)
            if shares[-1] < SHARE:
                return
    pytest.fail(f"{shares}")


def test_a_guide_is_compiled_once(service: Service) -> None:
    request = body(LENGTH)
    _, first = ask(service, request)
    assert min(ask(service, request)[1] for _ in range(ROUNDS)) < first / 4


def test_who_leaves_while_a_guide_waits_leaves_nothing(service: Service) -> None:
    """The first is under way when its client leaves; those behind it are never begun."""

    def leave() -> None:
        with pytest.raises(httpx.ReadTimeout):
            ask(service, body(LENGTH), timeout=httpx.Timeout(60, read=0.3))

    ratios = []
    for _ in range(ROUNDS):
        _, alone = ask(service, body(LENGTH))
        with ThreadPoolExecutor(8) as pool:
            for gone in [pool.submit(leave) for _ in range(8)]:
                gone.result()
        _, after = ask(service, body(LENGTH))
        ratios.append(after / alone)
        if ratios[-1] < 4:
            return
    pytest.fail(f"{ratios}")


def test_what_is_kept_is_dropped_and_answers_stay_right(service: Service) -> None:
    """Some 400,000 characters of guides, with streams and guided answers under way throughout."""
    before = service.engine().memory_info().rss

    def large() -> None:
        name = f"p{next(numbers)}"
        values = [f"{name} {i * 7919 % 1009} {i}" for i in range(1200)]
        request = body(2)
        request["response_format"]["json_schema"]["schema"] = {"enum": values}
        answer, _ = ask(service, {**request, "max_tokens": 60})
        assert answer in values

    known = body(3)
    with Stream(service), ThreadPoolExecutor(3) as pool:
        done = [pool.submit(large) for _ in range(16)]
        while not all(one.done() for one in done):
            answer, _ = ask(service, known)
            assert list(answer) == known["response_format"]["json_schema"]["schema"]["required"]
        for one in done:
            one.result()
    assert service.engine().memory_info().rss - before < 600 * 2**20
