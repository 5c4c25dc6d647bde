"""/v1/responses through OpenAI's own libraries."""

import asyncio
import json
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from pydantic import BaseModel, Field

from tests.support.asking import timeout
from tests.support.demo import ANSWERS, MODEL, PROMPT
from tests.support.serving import Service

GREETING = "Say hello in Japanese"


class Review(BaseModel):
    stars: int = Field(ge=1, le=5)
    tone: Literal["kind", "harsh"]


WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Kyiv", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def test_whole_and_streamed(client: OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=GREETING)
    assert whole.output_text == ANSWERS[GREETING]
    assert whole.usage and whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(model=MODEL, input=GREETING) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == whole.output_text
    assert final.usage == whole.usage
    assert (whole.status, final.status) == ("completed", "completed")


def test_structured_output(client: OpenAI) -> None:
    response = client.responses.parse(model=MODEL, input="Review the film", text_format=Review)
    assert isinstance(response.output_parsed, Review)


def test_a_call_and_its_result(client: OpenAI) -> None:
    question: Any = {"role": "user", "content": "What is the weather in Kyiv?"}
    with client.responses.stream(model=MODEL, input=[question], tools=[WEATHER], tool_choice="required") as stream:
        final = stream.get_final_response()
    call = final.output[0]
    assert call.type == "function_call"
    assert json.loads(call.arguments)["city"] in ("Kyiv", "Oslo")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    history: Any = [question, *final.output, result]
    assert client.responses.create(model=MODEL, input=history, tools=[WEATHER], max_output_tokens=5).output_text


def test_scores(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=GREETING, include=["message.output_text.logprobs"])
    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text" and part.logprobs
    assert b"".join(bytes(score.bytes) for score in part.logprobs).decode() == ANSWERS[GREETING]


def test_refusals_reach_the_client(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="nothing is kept") as error:
        client.responses.create(model=MODEL, input="Hi", previous_response_id="resp_1")
    assert error.value.param == "previous_response_id"


async def test_leaving_ends_the_answer(service: Service) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        # Hot enough to find no end by itself for long.
        stream = await client.responses.create(model=MODEL, input="Hi", temperature=2, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        async with timeout(60):
            while service.active():
                await asyncio.sleep(0.02)


async def test_openai_agents(service: Service) -> None:
    """At its defaults, which is this API: a tool is called, and its result read."""
    # It takes 0.7 s, in each process that has collected this.
    from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner, function_tool  # noqa: PLC0415

    seen: list[str] = []

    @function_tool
    def get_weather(city: Literal["Kyiv", "Oslo"]) -> str:
        """The weather in a city."""
        seen.append(city)
        return f"Sunny in {city}"

    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        model = OpenAIResponsesModel(MODEL, client)
        settings = ModelSettings(tool_choice="required")
        agent = Agent(name="a", instructions="Be brief.", model=model, tools=[get_weather], model_settings=settings)
        config = RunConfig(tracing_disabled=True)
        result = await Runner.run(agent, "What is the weather in Kyiv?", run_config=config)
        assert seen and isinstance(result.final_output, str)
        plain = Runner.run_streamed(Agent(name="b", model=model), PROMPT, run_config=config)
        async for _ in plain.stream_events():
            pass
        assert plain.final_output == ANSWERS[PROMPT]
