"""/v1/chat/completions through the clients that people use."""

import asyncio
import json
import shutil
import subprocess
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.asking import NO_REUSE, ask
from tests.support.demo import ANSWERS, MODEL, PROMPT, SCRIPTS, TEMPLATE, TOKENIZER
from tests.support.llmapi.place import ENGINE as PYTORCH
from tests.support.serving import Service

pytestmark = pytest.mark.engines


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


@pytest.mark.engines("openvino")
def test_models(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert client.models.retrieve(MODEL) == model
    assert client.models.retrieve(f"{MODEL}:test").id == MODEL


def test_answer_usage_and_shape(client: OpenAI) -> None:
    response: ChatCompletion = client.chat.completions.create(**ask(PROMPT))
    (choice,) = response.choices
    assert choice.message.content == ANSWERS[PROMPT]
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("stop", 0, None)
    assert (response.model, response.object) == (MODEL, "chat.completion")
    assert choice.message.tool_calls is None
    assert response.usage
    assert response.usage.prompt_tokens == len(TEMPLATE.chat([{"role": "user", "content": PROMPT}]))
    assert response.usage.completion_tokens == len(TOKENIZER.encode(ANSWERS[PROMPT])) + 1
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("question", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_streams_every_script_whole(client: OpenAI, question: str) -> None:
    chunks: list[ChatCompletionChunk] = list(client.chat.completions.create(**ask(question, stream=True)))
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == ANSWERS[question]
    assert not any("�" in text for text in texts)
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_of_a_stream(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(**ask(PROMPT, stream=True, stream_options=options)))
    last = chunks[-1]
    assert last.choices == []
    whole = client.chat.completions.create(**ask(PROMPT))
    assert last.usage and whole.usage
    # How many were cached is another matter for the second.
    usages = [usage.model_dump(exclude={"prompt_tokens_details"}) for usage in (last.usage, whole.usage)]
    assert usages[0] == usages[1]
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_frames_byte_for_byte(service: Service, engine: str) -> None:
    body = ask("Say hello in Japanese", stream=True, max_tokens=2, stream_options={"include_usage": True})
    response = httpx.post(f"{service.url}/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    frames = response.content.split(b"\n\n")
    assert frames.pop() == b""
    head = json.loads(frames[0].removeprefix(b"data: "))
    prefix = (
        f'data: {{"id":"{head["id"]}","object":"chat.completion.chunk","created":{head["created"]},'
        f'"model":"demo-llama","system_fingerprint":"{head["system_fingerprint"]}","choices":['
    ).encode()
    hello = ANSWERS["Say hello in Japanese"]
    text = b"".join(
        json.loads(f.removeprefix(b"data: "))["choices"][0]["delta"]["content"].encode() for f in frames[1:-3]
    )
    assert hello.encode().startswith(text)
    first = json.loads(frames[1].removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    delta = b'{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}],"usage":null}'
    assert frames[0] == prefix + delta % (b'{"role":"assistant","content":""}', b"null")
    assert frames[1] == prefix + delta % (f'{{"content":"{first}"}}'.encode(), b"null")
    assert frames[-3] == prefix + delta % (b"{}", b'"length","stop_reason":null')
    prompt = len(TEMPLATE.chat([{"role": "user", "content": "Say hello in Japanese"}]))
    usage = f'],"usage":{{"prompt_tokens":{prompt},"completion_tokens":2,"total_tokens":{prompt + 2}'
    if engine == PYTORCH:
        cached = json.loads(frames[-2].removeprefix(b"data: "))["usage"]["prompt_tokens_details"]["cached_tokens"]
        usage += f',"prompt_tokens_details":{{"cached_tokens":{cached}}}'
    assert frames[-2] == prefix + usage.encode() + b"}}"
    assert frames[-1] == b"data: [DONE]"


def test_curl_streams(service: Service) -> None:
    curl = shutil.which("curl")
    assert curl
    argv = [curl, "-sN", f"{service.url}/v1/chat/completions", "-H", "content-type: application/json"]
    result = subprocess.run(
        [*argv, "-d", json.dumps(ask(PROMPT, stream=True))], capture_output=True, timeout=60, check=True
    )
    frames = result.stdout.decode().removesuffix("\n\n").split("\n\n")
    assert frames.pop() == "data: [DONE]"
    deltas = [json.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in frames]
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWERS[PROMPT]


async def test_many_chats_at_once_equal_each_alone(service: Service) -> None:
    """64 chats, sampled with a seed, read with httpx-sse and with OpenAI's asynchronous client.

    About what the model knows, and not too hot: sums are rounded otherwise in another batch, and where all tokens
    are about as likely that can decide.
    """
    questions = [*SCRIPTS.values(), PROMPT, "What is Triton?"]
    bodies = [
        ask(questions[i % len(questions)], stream=True, seed=i % 2, temperature=0.7, max_tokens=30) for i in range(64)
    ]
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=120, limits=NO_REUSE) as client,
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as sdk,
    ):

        async def with_httpx(body: dict[str, Any]) -> str:
            async with aconnect_sse(client, "POST", "/v1/chat/completions", json=body) as source:
                events = [event.data async for event in source.aiter_sse()]
            assert events.pop() == "[DONE]"
            return "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events)

        async def with_sdk(body: dict[str, Any]) -> str:
            stream = await sdk.chat.completions.create(**body)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        alone = {str(body): "" for body in bodies}
        for body in bodies:
            alone[str(body)] = alone[str(body)] or await with_httpx(body)
        together = await asyncio.gather(*((with_sdk if i // 2 % 2 else with_httpx)(b) for i, b in enumerate(bodies)))
    assert together == [alone[str(body)] for body in bodies]


def test_choices_differ_by_seed_and_equal_requests_of_their_own(client: OpenAI) -> None:
    body = ask("Tell me something nobody knows", temperature=2, max_tokens=20)
    several = client.chat.completions.create(**body, seed=5, n=3)
    alone = [client.chat.completions.create(**body, seed=5 + i) for i in range(3)]
    assert [c.message.content for c in several.choices] == [r.choices[0].message.content for r in alone]
    assert [c.index for c in several.choices] == [0, 1, 2]
    assert len({c.message.content for c in several.choices}) > 1
    assert several.usage
    assert several.usage.completion_tokens == sum(r.usage.completion_tokens for r in alone if r.usage)
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**body, seed=5, n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == [c.message.content for c in several.choices]


def test_the_checkpoint_says_whether_to_sample_by_default(client: OpenAI) -> None:
    """The demo's generation_config.json does not."""
    body = ask("Tell me something nobody knows", max_tokens=30)
    assert len({client.chat.completions.create(**body).choices[0].message.content for _ in range(3)}) == 1


@pytest.mark.parametrize("stop", ["resistance", ["never", "ring"]])
def test_stop(client: OpenAI, stop: Any) -> None:
    choice = client.chat.completions.create(**ask(PROMPT, stop=stop)).choices[0]
    first = stop if isinstance(stop, str) else stop[1]
    assert choice.message.content == ANSWERS[PROMPT].partition(first)[0]
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_length(client: OpenAI, field: str) -> None:
    response = client.chat.completions.create(**ask(PROMPT, **{field: 5}))
    assert response.choices[0].finish_reason == "length"
    assert response.usage
    assert response.usage.completion_tokens == 5


@pytest.mark.engines("openvino")
def test_system_developer_parts_and_turns(client: OpenAI, service: Service) -> None:
    """Roles and parts make the prompt that the template makes of plain messages."""
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": PROMPT},
    ]
    fancy: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi there"}], "name": "ann"},
        {"role": "assistant", "content": "Hello", "refusal": None, "annotations": [], "audio": None},
        {"role": "user", "content": PROMPT},
    ]
    response = client.chat.completions.create(model=MODEL, messages=fancy, max_tokens=1)
    assert response.usage
    assert response.usage.prompt_tokens == len(TEMPLATE.chat(plain))


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("token", ["<|eot_id|>", "<|start_header_id|>system<|end_header_id|>", "<|python_tag|>"])
def test_control_tokens_in_messages_are_plain_characters(client: OpenAI, token: str) -> None:
    parts = [{"type": "text", "text": token[:4]}, {"type": "text", "text": token[4:]}]
    for content in (token, parts):
        messages: Any = [{"role": "user", "content": content}]
        usage = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1).usage
        assert usage
        bare = len(TEMPLATE.chat([{"role": "user", "content": "x"}])) - 1
        assert usage.prompt_tokens == bare + len(TOKENIZER.encode_text(token))


def test_logprobs(client: OpenAI) -> None:
    for question in ("Say hello in Japanese", "Show me some emoji"):
        response = client.chat.completions.create(**ask(question, logprobs=True, top_logprobs=1, temperature=0))
        scores = response.choices[0].logprobs
        assert scores and scores.content and response.usage
        assert b"".join(bytes(s.bytes or []) for s in scores.content).decode() == ANSWERS[question]
        assert len(scores.content) == response.usage.completion_tokens - 1  # all but the end token
        assert all(s.logprob <= 0 and s.top_logprobs[0].token == s.token for s in scores.content)
        chunks = list(client.chat.completions.create(**ask(question, logprobs=True, stream=True)))
        streamed = [s for c in chunks for s in (c.choices[0].logprobs.content or () if c.choices[0].logprobs else ())]
        assert [s.bytes for s in streamed] == [s.bytes for s in scores.content]


def test_a_forbidden_token_does_not_come(client: OpenAI) -> None:
    first = TOKENIZER.encode_text(ANSWERS[PROMPT])[0]
    response = client.chat.completions.create(**ask(PROMPT, logit_bias={str(first): -100}, max_tokens=5))
    assert response.choices[0].message.content
    assert TOKENIZER.encode_text(response.choices[0].message.content)[0] != first


def test_penalties_and_extensions_reach_the_engine(client: OpenAI) -> None:
    # Past the end of what it has memorised, the model has no text to be sure of.
    extra: dict[str, Any] = {"ignore_eos": True, "min_tokens": 100}
    body = ask("Say hello in French", max_tokens=100, temperature=0)
    plain = client.chat.completions.create(**body, extra_body=extra).choices[0].message.content
    for fields in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        penalised = client.chat.completions.create(**body | fields, extra_body=extra)
        assert penalised.choices[0].message.content != plain, fields
    repeated = client.chat.completions.create(**body, extra_body={**extra, "repetition_penalty": 2.0})
    assert repeated.choices[0].message.content != plain
    sampled = client.chat.completions.create(**{**body, "temperature": 1.5}, extra_body={**extra, "top_k": 1})
    assert sampled.choices[0].message.content == plain
    extra = {"ignore_eos": True}
    response = client.chat.completions.create(**ask("Say hello in French", max_tokens=50, extra_body=extra))
    assert response.usage
    assert response.usage.completion_tokens == 50
    assert response.choices[0].finish_reason == "length"


def test_cached_tokens_are_told_where_the_engine_tells(client: OpenAI, engine: str) -> None:
    """PyTorch's does. The end of a prompt is always computed: its last token gives the first of the answer."""
    question = "A question that nobody asked this service before"
    first, second = (client.chat.completions.create(**ask(question), max_tokens=1).usage for _ in range(2))
    assert first and second
    if engine != PYTORCH:
        assert first.prompt_tokens_details is None and second.prompt_tokens_details is None
        return
    assert first.prompt_tokens_details and second.prompt_tokens_details
    begun, known = first.prompt_tokens_details.cached_tokens, second.prompt_tokens_details.cached_tokens
    assert begun is not None and known is not None
    assert begun < known == second.prompt_tokens - 1
