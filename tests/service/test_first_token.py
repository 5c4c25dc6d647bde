"""The PyTorch engine's first token, before it is ready: what is known of it then, and how it fails.

The Gateway API Inference Extension reads of the KV cache, which only TensorRT-LLM's statistics tell.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.asking import read_events, stream_events
from tests.support.demo import PROMPT
from tests.support.serving import MACHINES, Service, serve
from tests.support.tiny import until

pytestmark = pytest.mark.engines("pytorch")
KV_CACHE = "trtllm_kv_cache_"


@pytest.fixture
def fresh(home: Path, tmp_path: Path) -> Iterator[Service]:
    """Of its own: nobody has asked it anything."""
    with serve(home, tmp_path / "log.txt") as service:
        service.wait_ready()
        yield service


def gauges(service: Service) -> dict[str, float]:
    lines = (line.split() for line in httpx.get(f"{service.url}/metrics", timeout=60).text.splitlines())
    return {line[0].removeprefix(KV_CACHE): float(line[1]) for line in lines if line[0].startswith(KV_CACHE)}


def known(service: Service) -> bool:
    return len(gauges(service)) == 3


def test_a_replica_is_known_before_its_first_request(fresh: Service) -> None:
    until(partial(known, fresh))
    idle = gauges(fresh)
    assert (idle["utilization"], idle["tokens_per_block"]) == (0, 32) and idle["max_blocks"] > 0
    text, _ = read_events(stream_events(fresh, {"prompt": PROMPT, "max_tokens": 20}))
    assert text
    until(lambda: fresh.active() == 0 and gauges(fresh) == idle)


def test_a_first_token_that_fails_is_told_and_the_engine_started_anew(home: Path, tmp_path: Path) -> None:
    """At once: what has failed does not hold Triton up."""
    log = tmp_path / "log.txt"
    MACHINES[home].wish(fail={"text": "out_of_memory", "times": None})
    with serve(home, log, "--arg", "restart_first_delay_s=0.1") as service:
        try:
            until(lambda: log.exists() and "failure 1 in a row" in log.read_text())
        finally:
            MACHINES[home].wish()
        service.wait_ready()
        said = log.read_text()
    assert "Triton could not load model tensorrt_llm: RequestError" in said and "out of memory" in said
    assert "that it has given up" not in said
