"""The generate endpoint, through the clients that people use."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from httpx_sse import aconnect_sse

from bento_trtllm.text.prompt import SYSTEM_PROMPT
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.asking import NO_REUSE, read_events, stream_events
from tests.support.demo import ANSWERS, PROMPT, SCRIPTS
from tests.support.serving import DEMO, SSE, Service

ROUNDS = 10

pytestmark = pytest.mark.engines


def test_curl_reads_server_sent_events(service: Service) -> None:
    curl = shutil.which("curl")
    assert curl
    argv = [curl, "-sN", f"{service.url}/generate", "-H", "content-type: application/json"]
    argv += ["-H", "accept: text/event-stream", "-d", json.dumps({"prompt": PROMPT}), "-D", "-"]
    result = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    head, _, body = result.stdout.decode().partition("\r\n\r\n")
    assert "200" in head.splitlines()[0]
    assert "content-type: text/event-stream" in head.lower()
    frames = body.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    text, _ = read_events([frame.removeprefix("data: ") for frame in frames])
    assert text == ANSWERS[PROMPT]


def test_readme_shows_what_is_printed(service: Service) -> None:
    """On a machine that does not keep the service waiting: what accumulated meanwhile would come in one event."""
    readme = (DEMO.parents[1] / "README.md").read_text("utf-8")
    for _ in range(ROUNDS):
        data = stream_events(service, {"prompt": PROMPT})
        shown = f"data: {data[0]}" in readme and f"data: {data[-2]}\n\ndata: [DONE]" in readme
        if shown:
            break
    assert shown, data


def test_events_come_token_by_token_and_count(service: Service) -> None:
    data = stream_events(service, {"prompt": PROMPT})
    text, finish = read_events(data)
    tokenizer = PromptTokenizer(DEMO)
    prompt = ChatTemplate(DEMO, tokenizer).prompt(PROMPT, SYSTEM_PROMPT)
    answer = len(tokenizer.encode(text)) + 1  # and the end token
    assert text == ANSWERS[PROMPT]
    assert finish == {
        "finish_reason": "stop",
        "usage": {"prompt_tokens": len(prompt), "completion_tokens": answer, "total_tokens": len(prompt) + answer},
    }
    assert len(data) > 4, "all at once"


def test_sync_http_client_yields_bare_text(service: Service) -> None:
    with bentoml.SyncHTTPClient(service.url) as client:
        pieces = list(client.generate(prompt=PROMPT))
    assert len(pieces) > 1, "all at once"
    assert "".join(pieces) == ANSWERS[PROMPT]


def test_defaults_are_the_documented_ones(service: Service) -> None:
    text, _ = read_events(stream_events(service, {}))
    assert text == ANSWERS[PROMPT]


def test_no_system_prompt_is_the_default_one(service: Service) -> None:
    default = read_events(stream_events(service, {"prompt": PROMPT, "system_prompt": SYSTEM_PROMPT}))
    assert read_events(stream_events(service, {"prompt": PROMPT, "system_prompt": None})) == default


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("prompt", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_every_script_arrives_whole(service: Service, prompt: str) -> None:
    data = stream_events(service, {"prompt": prompt})
    text, finish = read_events(data)
    assert text == ANSWERS[prompt]
    assert finish["finish_reason"] == "stop"
    assert not any("�" in item for item in data)
    with bentoml.SyncHTTPClient(service.url) as client:
        assert "".join(client.generate(prompt=prompt)) == text


async def test_many_streams_at_once_equal_one_alone(service: Service) -> None:
    """32 streams, some of them sampled with a seed, whose text equals that of the same request alone.

    Greedy ones answer in every script: what the text is on one engine, it is on all.
    """
    greedy: list[dict[str, Any]] = [{"prompt": prompt, "max_tokens": 100} for prompt in SCRIPTS.values()]
    sampled = [{"prompt": PROMPT, "temperature": 1, "seed": i % 4, "max_tokens": 40} for i in range(14)]
    bodies = [*greedy, *sampled]

    async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=NO_REUSE) as client:

        async def run(body: dict[str, Any]) -> str:
            async with aconnect_sse(client, "POST", "/generate", json=body, headers=SSE) as source:
                text, _ = read_events([event.data async for event in source.aiter_sse()])
                return text

        alone = {str(body): "" for body in bodies}
        for body in bodies:
            alone[str(body)] = alone[str(body)] or await run(body)
        together = await asyncio.gather(*map(run, bodies))
    assert together == [alone[str(body)] for body in bodies]
    assert all(ANSWERS[body["prompt"]].startswith(alone[str(body)]) for body in greedy)


def test_length_ends_an_answer(service: Service) -> None:
    text, finish = read_events(stream_events(service, {"prompt": PROMPT, "max_tokens": 5}))
    assert finish["finish_reason"] == "length"
    assert finish["usage"]["completion_tokens"] == 5
    assert ANSWERS[PROMPT].startswith(text)


@pytest.mark.parametrize("stop", ["\n\n", "resistance at", "e"])
def test_stop_string_ends_an_answer(service: Service, stop: str) -> None:
    text, finish = read_events(stream_events(service, {"prompt": PROMPT, "stop": [stop, "never in the text"]}))
    assert text == ANSWERS[PROMPT].partition(stop)[0]
    assert finish["finish_reason"] == "stop"


def test_same_seed_gives_the_same_text(service: Service) -> None:
    body = {"prompt": "Tell me something nobody knows", "temperature": 2.0, "max_tokens": 40}
    texts = {stream_events(service, {**body, "seed": 7})[0] for _ in range(2)}
    assert len(texts) == 1
    assert len({str(stream_events(service, body)) for _ in range(4)}) > 1, "without a seed each answer is another"


def test_next_to_no_temperature_is_none(service: Service) -> None:
    """On every route; 1e-40 is more than f32 can divide by."""
    question = "Tell me something nobody knows"
    messages = [{"role": "user", "content": question}]
    routes: dict[str, dict[str, Any]] = {
        "/generate": {"prompt": question},
        "/v1/chat/completions": {"model": "demo-llama", "messages": messages, "logprobs": True, "top_logprobs": 1},
        "/v1/completions": {"model": "demo-llama", "prompt": question, "logprobs": 1},
    }
    for route, fields in routes.items():
        texts = set()
        for temperature in (0, 1e-40, 1e-38, 9e-6):
            body = {**fields, "max_tokens": 12, "seed": 7, "temperature": temperature}
            response = httpx.post(f"{service.url}{route}", json=body, timeout=60)
            assert response.status_code == 200, response.text
            answer = response.text if route == "/generate" else response.json()["choices"][0]
            texts.add(answer if isinstance(answer, str) else (answer.get("text") or answer["message"]["content"]))
        assert len(texts) == 1, route


@pytest.mark.engines("openvino")
def test_prompt_over_the_context_length_is_refused(service: Service) -> None:
    response = httpx.post(f"{service.url}/generate", json={"prompt": "word " * 6000}, headers=SSE, timeout=60)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    # How many more is not counted: a text is read no further than the context reaches.
    assert "over 4096 tokens" in response.json()["error"]["message"]


def test_answer_is_cut_to_the_context(service: Service) -> None:
    tokenizer = PromptTokenizer(DEMO)
    template = ChatTemplate(DEMO, tokenizer)
    prompt = "a b " * 1000
    while len(template.prompt(prompt, SYSTEM_PROMPT)) > 4090:
        prompt = prompt[:-4]
    used = len(template.prompt(prompt, SYSTEM_PROMPT))
    _, finish = read_events(stream_events(service, {"prompt": prompt, "max_tokens": 100}))
    assert finish["usage"]["prompt_tokens"] == used
    assert finish["usage"]["total_tokens"] <= 4096


@pytest.mark.engines("openvino")
@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 0},
        {"max_tokens": 1025},
        {"max_tokens": "many"},
        {"temperature": -1},
        {"top_p": 1.1},
        {"top_k": 0},
        {"seed": -1},
        {"prompt": 5},
        {"stop": "not a list"},
    ],
)
def test_wrong_values_are_a_400_that_names_them(service: Service, body: dict[str, Any]) -> None:
    response = httpx.post(f"{service.url}/generate", json={"prompt": "hi", **body}, headers=SSE, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(body))
    assert "Traceback" not in response.text


@pytest.mark.engines("openvino")
def test_page_at_the_root_lists_generate_with_its_defaults(service: Service) -> None:
    page = httpx.get(f"{service.url}/")
    assert page.status_code == 200
    assert "swagger" in page.text.lower()
    spec = httpx.get(f"{service.url}/docs.json").json()
    properties = spec["paths"]["/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "properties"
    ]
    assert properties["prompt"]["default"] == PROMPT
    assert properties["system_prompt"]["default"] == SYSTEM_PROMPT
    assert properties["max_tokens"]["default"] == 1024


def test_client_library_knows_the_parameters(service: Service, tmp_path: Path) -> None:
    with bentoml.SyncHTTPClient(service.url) as client:
        text = "".join(client.generate(prompt=PROMPT, system_prompt="", max_tokens=8, temperature=0.0, stop=["\n"]))
    assert text
