"""Whatever is sent: never a 5xx, never a traceback, and what can be said is said in the body."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.serving import SSE, Service

PICKLE = "application/vnd.bentoml+pickle"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def post(client: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    response = client.post("/generate", content=content, headers={**JSON, **SSE, **headers})
    assert response.status_code < 500, response.text
    assert "Traceback" not in response.text
    return response


RAW = {
    "empty": b"",
    "not JSON": b"{",
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": Infinity}',
    "a huge integer": b'{"max_tokens": ' + b"9" * 5000 + b"}",
    "a huge float": b'{"temperature": 1e999}',
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "a surrogate in the wrong order": b'{"prompt": "\\udc00\\ud800"}',
    "not UTF-8": b'{"prompt": "\xff\xfe"}',
    "deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a key twice": b'{"max_tokens": 1, "max_tokens": 2000}',
    "10 MB": json.dumps({"prompt": "a" * 10_000_000}).encode(),
    "2 MB": json.dumps({"prompt": "word " * 400_000}).encode(),
}


@pytest.mark.parametrize("body", RAW.values(), ids=RAW.keys())
def test_raw_bodies(client: httpx.Client, body: bytes) -> None:
    response = post(client, body)
    if body not in (b"", b"null"):
        assert response.status_code in (400, 413), response.text
        assert "error" in response.json()


ODD = ["", "\0", "\0" * 100, "\u200b", " " * 100, "\r\n\t", "<|eot_id|>" * 50, "\U0010ffff"]


@pytest.mark.parametrize("prompt", ODD)
def test_odd_prompts_are_answered(client: httpx.Client, prompt: str) -> None:
    response = post(client, json.dumps({"prompt": prompt, "max_tokens": 3}).encode())
    assert response.status_code == 200
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a/b", ";", PICKLE]
)
def test_wrong_content_types(client: httpx.Client, kind: str) -> None:
    response = post(client, b'{"prompt": "hi", "max_tokens": 2}', **{"content-type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["message"]


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    body = {"prompt": "hi", "max_tokens": 2, "something": {"else": 1}}
    assert post(client, json.dumps(body).encode()).status_code == 200


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS = ["prompt", "system_prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_json(client: httpx.Client, body: dict[str, Any]) -> None:
    response = post(client, json.dumps({"max_tokens": 2, **body}).encode())
    assert response.status_code in (200, 400)


def test_schemathesis_finds_no_server_error(service: Service) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/docs.json")
    cases = 0
    for operation in schema.get_all_operations():
        api = operation.ok()
        if api.path != "/generate":
            continue

        @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=api.as_strategy())
        def run(case: Any) -> None:
            nonlocal cases
            if isinstance(case.body, dict):
                case.body["max_tokens"] = 2
            response = case.call(base_url=service.url, headers=SSE, timeout=30)
            assert response.status_code < 500, response.text
            assert "Traceback" not in response.text
            cases += 1

        run()
    assert cases >= 50


def test_log_has_no_traceback(service: Service) -> None:
    """After all of the above."""
    log = service.log.read_text()
    assert "Refused a request" in log
    assert "Traceback" not in log
