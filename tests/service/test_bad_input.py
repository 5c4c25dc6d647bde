"""Whatever is sent: never a 5xx, never a traceback, and what can be said is said in the body."""

import json
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from bento_trtllm.api.openai.requests import ChatRequest, CommonFields, CompletionRequest
from tests.support.serving import SSE, Service

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


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions"])
@pytest.mark.parametrize("told", [True, False])
def test_a_body_over_the_limit_is_refused(client: httpx.Client, path: str, told: bool) -> None:
    """Whether its length is said beforehand or not."""
    body = json.dumps({"prompt": "a" * 5 * 2**20}).encode()
    response = client.post(path, content=body if told else iter([body]), headers=JSON)
    assert ("content-length" in response.request.headers) is told
    assert response.status_code == 413
    assert "4194304 bytes" in response.json()["error"]["message"]


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


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": [{"role": "user", "content": "hi"}]}, "messages", "unknown_parameter"),
    ({"prompt": "hi", "something": {"else": 1}}, "something", "unknown_parameter"),
    ({"max_tokens": 2}, "prompt", "missing_required_parameter"),
    ({"prompt": None, "max_tokens": 2}, "prompt", "missing_required_parameter"),
    ({"prompt": "hi", "temperature": 9}, "temperature", "invalid_value"),
    ({"prompt": "hi", "stop": ["a"] * 17}, "stop", "invalid_value"),
    ({"prompt": ["hi"]}, "prompt", "invalid_type"),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], param: str, code: str) -> None:
    response = post(client, json.dumps(body).encode())
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"].startswith(f"{param}: ")


def test_null_is_as_good_as_absent(client: httpx.Client) -> None:
    body = {"prompt": "hi", "max_tokens": 2, **dict.fromkeys([*FIELDS[3:], "system_prompt"])}
    assert post(client, json.dumps(body).encode()).status_code == 200


EDGES = [2**31 - 1, 2**31, -(2**31) - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1e-45, 1e-300, 1e300, -0.0, 0.01, 2.0]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(EDGES)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS = ["prompt", "system_prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_json(client: httpx.Client, body: dict[str, Any]) -> None:
    response = post(client, json.dumps({"max_tokens": 2, **body}).encode())
    assert response.status_code in (200, 400)


CHAT = {"model": "demo-llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
COMPLETION = {"model": "demo-llama", "prompt": "Hi", "max_tokens": 2}
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "robot"])},
        optional=dict.fromkeys(("content", "name", "refusal", "tool_calls", "tool_call_id"), VALUES),
    ),
    max_size=3,
)


def bodies(kind: type[CommonFields], whole: dict[str, Any], **better: Any) -> st.SearchStrategy[Any]:
    """A request with any JSON in some of its fields, or any JSON."""
    fields = {name: better.get(name, VALUES) for name in sorted(kind.model_fields)}
    some = st.fixed_dictionaries({}, optional=fields)
    return VALUES | some.map(lambda body: whole | body) | some


def check_v1(response: httpx.Response) -> None:
    """An answer, or an error that OpenAI's clients can read and that blames the request."""
    assert "Traceback" not in response.text
    if response.status_code == 200:
        assert response.text.endswith(("}", "data: [DONE]\n\n"))
    else:
        assert response.status_code in (400, 404), response.text
        assert response.json()["error"]["type"] == "invalid_request_error"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({**CHAT, "min_tokens": 2**31})
@given(bodies(ChatRequest, CHAT, messages=MESSAGES | VALUES))
def test_any_json_in_a_chat(client: httpx.Client, body: Any) -> None:
    check_v1(client.post("/v1/chat/completions", content=json.dumps(body), headers=JSON))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies(CompletionRequest, COMPLETION))
def test_any_json_in_a_completion(client: httpx.Client, body: Any) -> None:
    check_v1(client.post("/v1/completions", content=json.dumps(body), headers=JSON))


def test_schemathesis_finds_no_server_error(service: Service) -> None:
    """On every route that our OpenAPI names."""
    schema = schemathesis.openapi.from_url(f"{service.url}/docs.json")
    cases: Counter[str] = Counter()
    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok)
        api = operation.ok()

        @settings(
            max_examples=80 if api.path == "/generate" else 40, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=api.as_strategy())
        def run(case: Any) -> None:
            if isinstance(case.body, dict):
                case.body.pop("max_completion_tokens", None)
                case.body["max_tokens"] = 2
                if case.path.startswith("/v1"):
                    case.body["model"] = "demo-llama"
            response = case.call(base_url=service.url, headers=SSE, timeout=60)
            assert response.status_code < 500, response.text
            assert "Traceback" not in response.text
            cases[case.path] += 1

        run()
    assert cases.keys() == httpx.get(f"{service.url}/docs.json").json()["paths"].keys()
    assert cases["/generate"] >= 50


def test_log_has_no_traceback(service: Service, client: httpx.Client) -> None:
    """After all of the above."""
    assert post(client, RAW["NaN"]).status_code == 400
    log = service.log.read_text()
    assert "Traceback" not in log
