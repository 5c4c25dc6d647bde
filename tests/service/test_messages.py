"""/v1/messages through Anthropic's own library."""

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from pydantic import BaseModel

from tests.support.asking import timeout
from tests.support.demo import ANSWERS, MODEL, PROMPT
from tests.support.serving import Service

if TYPE_CHECKING:  # it takes 1 s, in each process that has collected this
    from anthropic import Anthropic

QUESTION: Any = [{"role": "user", "content": "Say hello in Japanese"}]
GREETING = ANSWERS["Say hello in Japanese"]


class Review(BaseModel):
    stars: Literal[1, 2, 3]
    tone: Literal["kind", "harsh"]


WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Kyiv", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(service: Service) -> "Anthropic":
    from anthropic import Anthropic  # noqa: PLC0415

    return Anthropic(base_url=service.url, api_key="none", max_retries=0)


def test_whole_and_streamed(client: "Anthropic") -> None:
    whole = client.messages.create(model=MODEL, max_tokens=100, messages=QUESTION)
    assert [block.text for block in whole.content if block.type == "text"] == [GREETING]
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=QUESTION) as stream:
        assert "".join(stream.text_stream) == GREETING
        final = stream.get_final_message()
    assert final.usage == whole.usage
    count = client.messages.count_tokens(model=MODEL, messages=QUESTION)
    assert count.input_tokens == whole.usage.input_tokens


def test_ends(client: "Anthropic") -> None:
    messages: Any = [{"role": "user", "content": PROMPT}]
    stopped = client.messages.create(model=MODEL, max_tokens=100, messages=messages, stop_sequences=["resistance"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "resistance")
    begun = ANSWERS[PROMPT].partition("resistance")[0]
    assert [block.text for block in stopped.content if block.type == "text"] == [begun]
    messages.append({"role": "assistant", "content": begun.rstrip()})
    rest = client.messages.create(model=MODEL, max_tokens=400, messages=messages)
    assert [begun.rstrip() + block.text for block in rest.content if block.type == "text"] == [ANSWERS[PROMPT]]
    assert client.messages.create(model=MODEL, max_tokens=2, messages=messages).stop_reason == "max_tokens"


def test_a_call_and_its_result(client: "Anthropic") -> None:
    asked: Any = {"model": MODEL, "max_tokens": 200, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    with client.messages.stream(messages=QUESTION, **asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    calls = [block for block in final.content if block.type == "tool_use"]
    assert calls and all(call.input["city"] in ("Kyiv", "Oslo") for call in calls)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny"} for call in calls]
    messages: Any = [*QUESTION, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
    answer = client.messages.create(messages=messages, model=MODEL, max_tokens=5, tools=[WEATHER])
    assert answer.content


def test_structured_output(client: "Anthropic") -> None:
    message = client.messages.parse(model=MODEL, max_tokens=100, messages=QUESTION, output_format=Review)
    assert isinstance(message.parsed_output, Review)


def test_errors_reach_the_client(client: "Anthropic", service: Service) -> None:
    from anthropic import BadRequestError, NotFoundError  # noqa: PLC0415

    with pytest.raises(NotFoundError, match="does not exist") as missing:
        client.messages.create(model="claude", max_tokens=1, messages=QUESTION)
    assert missing.value.type == "not_found_error"
    with pytest.raises(BadRequestError, match="context") as long:
        words: Any = [{"role": "user", "content": "word " * 20_000}]
        client.messages.create(model=MODEL, max_tokens=10, messages=words)
    assert long.value.type == "invalid_request_error"
    # Refused before any route is asked.
    plain = httpx.post(f"{service.url}/v1/messages", content=b"{}", headers={"content-type": "text/plain"})
    assert (plain.status_code, plain.json()["type"]) == (415, "error")


async def test_leaving_ends_the_answer(service: Service) -> None:
    from anthropic import AsyncAnthropic  # noqa: PLC0415

    async with AsyncAnthropic(base_url=service.url, api_key="none", max_retries=0) as client:
        # Hot enough to find no end by itself for long.
        hot: Any = {"extra_body": {"temperature": 1.0}, "max_tokens": 1000}
        messages: Any = [{"role": "user", "content": "Tell me something nobody knows"}]
        async with client.messages.stream(model=MODEL, messages=messages, **hot) as stream:
            async for _ in stream.text_stream:
                break
        async with timeout(60):
            while service.active():
                await asyncio.sleep(0.02)
