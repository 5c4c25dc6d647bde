"""What OpenAI's API says when something is wrong, in OpenAI's form."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.asking import ask
from tests.support.demo import MODEL
from tests.support.serving import Service, serve

MESSAGES = [{"role": "user", "content": "Hi"}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]


def post(service: Service, body: Any, route: str = "chat/completions") -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.post(
        f"{service.url}/v1/{route}", content=content, headers={"content-type": "application/json"}, timeout=60
    )


def error(response: httpx.Response) -> dict[str, Any]:
    """The error object, which has OpenAI's four fields and no other."""
    assert response.headers["content-type"] == "application/json"
    body: dict[str, dict[str, Any]] = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"].endswith(".")
    assert "Traceback" not in response.text
    return body["error"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0]", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stop": [""]}, "stop[0]", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", None),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", None),
        ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
        ({"logit_bias": {"x": -100}}, "logit_bias", None),
        ({"logit_bias": {"5": 1}}, "logit_bias", None),
        ({"logit_bias": {"5": -101}}, "logit_bias.5", "invalid_value"),
        ({"min_p": 1.1}, "min_p", "invalid_value"),
        ({"top_logprobs": 1}, "top_logprobs", None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"banana": 1}, "banana", "unknown_parameter"),
        ({"audio": {}}, "audio", "unsupported_value"),
        ({"stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"response_format": {"type": "xml"}}, "response_format", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", None),
    ],
)
def test_faults_are_named(service: Service, fields: dict[str, Any], param: str, code: str | None) -> None:
    response = post(service, {"model": MODEL, "messages": MESSAGES, **fields})
    assert response.status_code == 400
    found = error(response)
    assert found["type"] == "invalid_request_error"
    assert found["param"] == param
    assert code is None or found["code"] == code
    assert param.split("[", maxsplit=1)[0].split(".", maxsplit=1)[0] in found["message"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '"x"',
        "null",
        '{"model": "demo-llama", "messages": NaN}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_what_is_no_request(service: Service, body: Any) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{service.url}/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_request_error"


def test_other_content_type(service: Service) -> None:
    response = httpx.post(
        f"{service.url}/v1/chat/completions", content=json.dumps(ask("Hi")), headers={"content-type": "text/plain"}
    )
    assert response.status_code == 415
    assert "content-type" in error(response)["message"].lower()


def test_unknown_model(service: Service) -> None:
    for response in (post(service, {**ask("Hi"), "model": "gpt-4"}), httpx.get(f"{service.url}/v1/models/gpt-4")):
        assert response.status_code == 404
        found = error(response)
        assert (found["param"], found["code"]) == ("model", "model_not_found")
        assert MODEL in found["message"]


def test_unknown_path_and_method(service: Service) -> None:
    assert error(httpx.get(f"{service.url}/v1/nothing"))["code"] == "unknown_url"
    response = httpx.get(f"{service.url}/v1/chat/completions")
    assert response.status_code == 405
    error(response)


@pytest.mark.parametrize("stream", [False, True])
def test_context_overflow(service: Service, stream: bool) -> None:
    for body, param in (
        (ask("word " * 6000, stream=stream), "messages"),
        (ask("Hi", max_tokens=4096, stream=stream), "max_tokens"),
        (ask("Hi", max_completion_tokens=100_000, stream=stream), "max_completion_tokens"),
    ):
        response = post(service, body)
        assert response.status_code == 400
        found = error(response)
        assert (found["code"], found["param"]) == ("context_length_exceeded", param)
        assert "4096" in found["message"]
    assert error(post(service, {"model": MODEL, "prompt": "word " * 6000}, "completions"))["param"] == "prompt"


def test_clients_raise_their_own_exceptions(service: Service) -> None:
    client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**ask("Hi"), "model": "nope"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(**ask("word " * 6000))
    assert long.value.code == "context_length_exceeded"


def test_missing_key_overload_and_a_dead_engine(home: Path, tmp_path: Path) -> None:
    limits = ("--arg", "max_running_requests=1", "--arg", "max_waiting_requests=0", "--arg", "restart_first_delay_s=30")
    with serve(home, tmp_path / "log.txt", *limits, TRTLLM_API_KEYS="secret") as service:
        service.wait_ready()
        no_key = OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refused:
            no_key.models.list()
        assert refused.value.code == "invalid_api_key"
        error(httpx.get(f"{service.url}/v1/models"))
        assert httpx.get(f"{service.url}/chat").status_code == 200

        client = OpenAI(base_url=f"{service.url}/v1", api_key="secret", max_retries=0)
        assert client.models.list().data[0].id == MODEL
        endless: Any = {"ignore_eos": True}
        with client.chat.completions.create(**ask("Hi", stream=True, extra_body=endless)) as stream:
            next(iter(stream))
            with pytest.raises(openai.RateLimitError) as busy:
                client.chat.completions.create(**ask("Hi"))
            assert busy.value.code == "rate_limit_exceeded"
            assert busy.value.response.headers["retry-after"]

            # The engine dies while it answers: the stream ends with an error that the client raises.
            (triton,) = service.tritons()
            triton.kill()
            with pytest.raises(openai.APIError) as cut:
                list(stream)
            assert cut.value.code == "engine_unavailable"
        with pytest.raises(openai.InternalServerError) as down:
            client.chat.completions.create(**ask("Hi"))
        assert down.value.status_code == 503
        assert down.value.code == "engine_unavailable"


def test_a_request_has_its_id_in_the_response_and_in_the_log(service: Service) -> None:
    asked = [("GET", "/v1/models"), ("GET", "/nothing"), ("POST", "/v1/completions"), ("POST", "/generate")]
    names = {f"{method}{path}": secrets.token_hex(8) for method, path in asked}
    for method, path in asked:
        response = httpx.request(
            method, service.url + path, json={} if method == "POST" else None,
            headers={"x-request-id": names[f"{method}{path}"]}, timeout=60,
        )  # fmt: skip
        assert response.headers["x-request-id"] == names[f"{method}{path}"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = service.log.read_text("utf-8", "replace").splitlines()
        found = {name: [line for line in lines if f"request={name}" in line] for name in names.values()}
        if all(found.values()):
            return
        time.sleep(0.05)
    raise AssertionError(found)
