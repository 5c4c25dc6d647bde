"""A disk that becomes full under a service: no worker dies of it, and with room again all is as before."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.asking import read_events, stream_events
from tests.support.demo import ANSWERS, PROMPT
from tests.support.disk import full, mounted
from tests.support.processes import alone, owner, workers
from tests.support.serving import Service, serve
from tests.support.tiny import until

COUNT = 2
CHAT = {"model": "demo-llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
COMPLETION = {"model": "demo-llama", "prompt": "hi", "max_tokens": 2}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as disk:
        yield disk


def ask_all(service: Service, times: int) -> None:
    """Every route, new connections each time, so that every worker comes to have all of its metrics."""
    assert read_events(stream_events(service, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
    for _ in range(times):
        beginning = read_events(stream_events(service, {"prompt": PROMPT, "max_tokens": 2}))[0]
        assert beginning and ANSWERS[PROMPT].startswith(beginning)
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)):
            assert httpx.post(service.url + path, json=body, timeout=60).status_code == 200
            assert httpx.post(service.url + path, json={}, timeout=60).status_code == 400
        assert httpx.get(f"{service.url}/metrics", timeout=60).status_code == 200


def readiness(service: Service) -> dict[int, int]:
    """What each worker says of itself: any of them may have all connections for a while, and one alone be wrong."""
    found = {}
    for worker in workers(service):
        with alone(service, worker):
            found[worker] = httpx.get(f"{service.url}/readyz", timeout=60).status_code
    return found


def chats(service: Service) -> int:
    """Answers at /v1/chat/completions, as the metrics have them."""
    lines = httpx.get(f"{service.url}/metrics", timeout=60).text.splitlines()
    wanted = [line for line in lines if line.startswith("trtllm_requests_total{") and "/v1/chat/completions" in line]
    return int(sum(float(line.rpartition(" ")[2]) for line in wanted if "invalid" not in line))


def without_room(service: Service, log: Path, victim: int) -> set[str]:
    """The files of the living that had no room and have not said that they have it again. Each looks when it counts."""
    ask_all(service, 1)
    text = log.read_text()
    missing = set(re.findall(r"No room for (\S+) ", text)) - set(re.findall(r"There is room for (\S+) again", text))
    return {name for name in missing if f"_{victim}." not in name}


def test_metrics(home: Path, disk: Path, tmp_path: Path) -> None:
    """The files are mapped: writing where there is no room is a SIGBUS, to a worker and to each in its place."""
    (disk / "models").symlink_to(home / "models")
    log = tmp_path / "log.txt"
    with serve(disk, log, "--arg", f"workers={COUNT}") as service:
        service.wait_ready()
        until(lambda: len(workers(service)) == COUNT)
        before = workers(service)
        with full(disk):
            ask_all(service, 8)
            assert workers(service) == before
            victim = min(before)
            os.kill(victim, 9)
            until(lambda: len(workers(service) - {victim}) == COUNT)
            service.wait_ready()
            new = workers(service)
            ask_all(service, 8)
            assert workers(service) == new
            assert "No room for" in log.read_text()
        until(lambda: not without_room(service, log, victim))
        ask_all(service, 4)
        counted = chats(service)
        ask_all(service, 4)
        assert chats(service) == counted + 4
        assert workers(service) == new
        assert service.stop() == 0
    assert "Traceback" not in log.read_text()


def test_run_folder(home: Path, disk: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    options = (f"workers={COUNT}", "restart_first_delay_s=1", "restart_max_delay_s=1")
    arguments = [word for option in options for word in ("--arg", option)]
    with serve(home, log, *arguments, TMPDIR=str(disk)) as service:
        service.wait_ready()
        until(lambda: len(workers(service)) == COUNT)
        before = workers(service)
        with full(disk):
            ask_all(service, 4)
            service.tritons()[0].kill()
            until(lambda: "No space left on device" in httpx.get(f"{service.url}/readyz", timeout=60).text)
            assert readiness(service) == dict.fromkeys(before, 503)
            response = httpx.post(f"{service.url}/v1/completions", json=COMPLETION, timeout=60)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            time.sleep(3)
            assert readiness(service) == dict.fromkeys(before, 503)
            assert workers(service) == before
        service.wait_ready()
        assert readiness(service) == dict.fromkeys(before, 200)
        ask_all(service, 4)
        assert workers(service) == before
        assert "No space left on device" in log.read_text()

        with full(disk):
            owner(service).kill()
            until(lambda: len(workers(service) & before) == 1)
            until(lambda: httpx.get(f"{service.url}/readyz", timeout=60).status_code == 503)
        service.wait_ready()
        until(lambda: len(workers(service)) == COUNT)
        until(lambda: list(readiness(service).values()) == COUNT * [200])
        ask_all(service, 4)
        assert len(service.tritons()) == 1
        assert service.stop() == 0
    assert "Traceback" not in log.read_text()
