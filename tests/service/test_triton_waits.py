"""Triton does not come to wait for itself where clients leave while it answers them."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.asking import connect
from tests.support.limits import LIMIT_S
from tests.support.serving import Service, serve

# Of Triton, for its own tests: for so long it holds, before each response, what it would hold for a microsecond. Where
# calls were cancelled, it came to wait for itself after some hundred of these clients.
DELAY_MS = "3"
CLIENTS, EACH, LONGEST_S = 16, 30, 0.15
BODY = {"model": "demo-llama", "prompt": "a", "max_tokens": 40, "ignore_eos": True, "stream": True}


def leave(service: Service, number: int) -> None:
    dice = random.Random(number)
    for _ in range(EACH):
        with connect(service, "/v1/completions", BODY, "text/event-stream"):
            time.sleep(dice.random() * LONGEST_S)


@pytest.mark.engines("openvino", "pytorch")
def test_it_answers_on(home: Path, tmp_path: Path) -> None:
    with serve(home, tmp_path / "log.txt", TRITONSERVER_DELAY_GRPC_RESPONSE=DELAY_MS) as service:
        service.wait_ready()
        (triton,) = service.tritons()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for left in [pool.submit(leave, service, number) for number in range(CLIENTS)]:
                left.result()
        answer = httpx.post(f"{service.url}/v1/completions", json={**BODY, "stream": False}, timeout=LIMIT_S)
        assert answer.json()["usage"]["completion_tokens"] == BODY["max_tokens"]
        assert service.tritons() == [triton]
