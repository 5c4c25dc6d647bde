"""Paths that clients make up: one label in the metrics, and one line in the log, whatever is in them."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bento_trtllm.metrics.routes import OTHER, PATHS, label
from tests.support.serving import Service, serve
from tests.support.wire import connect, get, parse, receive

COUNT = 300
KEY = {"authorization": "Bearer secret"}


@pytest.fixture
def asked(home: Path, tmp_path: Path) -> Iterator[Service]:
    """A service of which nobody else has asked anything."""
    with serve(home, tmp_path / "log.txt", TRTLLM_API_KEYS="secret") as service:
        service.wait_ready()
        yield service


def test_made_up_paths_have_one_label(asked: Service) -> None:
    """Before the key is looked at, and behind it."""
    with httpx.Client(base_url=asked.url) as client:
        for headers in ({}, KEY):
            client.get("/v1/models/demo-llama", headers=headers)
            client.get("/generate", headers=headers)
            client.post("/v1/models/nothing", json={}, headers=headers)
        before = client.get("/metrics", headers=KEY).text
        for i in range(COUNT):
            path = ("/{}", "/v1/{}", "/v1/models/{}", "/static_content/{}", "/generate/{}")[i % 5]
            response = client.get(path.format(secrets.token_hex(8)), headers=KEY if i % 2 else {})
            assert response.status_code in (401, 404)
        answers = [client.get("/metrics", headers=KEY) for _ in range(3)]
    answer = answers[0]
    endpoints = set(re.findall(r'endpoint="([^"]*)"', answer.text)) | set(re.findall(r'route="([^"]*)"', answer.text))
    assert endpoints <= {*PATHS, OTHER, "/v1/models/{model}", "/static_content"}
    assert {"/generate", "/v1/models/{model}", OTHER} <= endpoints
    total = sum(
        float(line.rpartition(" ")[2])
        for line in answer.text.splitlines()
        if line.startswith("bentoml_service_request_total{")
        and any(f'endpoint="{name}"' in line for name in (OTHER, "/v1/models/{model}", "/static_content"))
    )
    assert total >= COUNT
    assert len(answer.text) < len(before) + 50_000
    assert min(each.elapsed.total_seconds() for each in answers) < 5


def test_each_route_has_its_label(service: Service) -> None:
    paths = httpx.get(f"{service.url}/docs.json").json()["paths"]
    assert "/v1/chat/completions" in paths
    assert [path for path in paths if label(path) == OTHER] == []
    assert label("/v1/models/a/b") == "/v1/models/{model}"
    assert {label(path) for path in ("/v1/model", "/generate/", "/metrics/x", "", "//", "/v1/")} == {OTHER}


FORGED = (
    "2026-01-01T00:00:00+0000 [INFO] [entry_service:bento-trtllm:1] 10.0.0.1:1 (scheme=http,method=GET,path=/forged"
)
EVIL = {
    "%0a": "\\n",
    "%0d": "\\r",
    "%1b%5b31m": "\\x1b[31m",
    "%00": "\\x00",
    "%7f": "\\x7f",
    "%c2%85": "\\x85",
    "%c2%9b": "\\x9b",
    "%e2%80%a8": "\\u2028",
    "%e2%80%ae": "\\u202e",
    "%08": "\\x08",
}


@pytest.mark.parametrize("sent", EVIL)
def test_a_path_writes_no_line_of_its_own(service: Service, sent: str) -> None:
    mark = secrets.token_hex(8)
    path = f"/{mark}{sent}{FORGED.replace(' ', '%20')}"
    with connect(service.url) as connection:
        connection.sendall(get(path, f"x-forwarded-for: 1.2.3.4{mark}"))
        assert parse(receive(connection)).status == 404
    log = service.log.read_bytes()
    (line,) = (line for line in log.splitlines() if mark.encode() in line and b"path=" in line)
    assert f"path=/{mark}{EVIL[sent]}2026".encode() in line
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", log)


def test_a_header_writes_no_line_of_its_own(service: Service) -> None:
    """A proxy on this machine says who its client is, and uvicorn believes it."""
    mark = secrets.token_hex(8)
    with connect(service.url) as connection:
        request = get("/nothing", "x-forwarded-for: MARK").replace(b"MARK", mark.encode() + b"\x85\x9b31mforged")
        connection.sendall(request)
        assert parse(receive(connection)).status == 404
    (line,) = (line for line in service.log.read_bytes().splitlines() if mark.encode() in line)
    assert b"\\x85\\x9b31mforged" in line
