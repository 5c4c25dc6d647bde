"""Structured output and tools: whatever the model, what it writes has the form that was asked for."""

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import jsonschema
import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel, Field

from tests.support.asking import ask
from tests.support.demo import ANSWERS, MODEL, PROMPT, TEMPLATE
from tests.support.schemas import SCHEMAS
from tests.support.serving import Service

pytestmark = pytest.mark.engines("openvino", "tensorrt-1.x")  # 0.10.0 has no guided decoding


class Review(BaseModel):
    """What LangChain and OpenAI's client make a schema of."""

    title: str = Field(max_length=30)
    stars: int = Field(ge=1, le=5)
    mood: Literal["good", "bad"]
    tags: list[Literal["a", "b"]] = Field(max_length=3)


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
CONTEXT = 4096
TIME: Any = {"type": "function", "function": {"name": "get_time"}}
Check = Callable[..., None]
FLAG = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
TAG = {
    "type": "triggered_tags",
    "triggers": ["<a"],
    "tags": [{"begin": "<a>", "content": {"type": "json_schema", "json_schema": FLAG}, "end": "</a>"}],
    "at_least_one": True,
}


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_every_answer_is_valid(client: OpenAI, schema: Any) -> None:
    check_answers(client, schema)


@pytest.mark.engines("tensorrt-1.x", "pytorch")
@pytest.mark.parametrize("name", ["pydantic", "enum", "numbers", "several types", "formats"])
def test_answers_are_valid_on_every_engine(client: OpenAI, name: str) -> None:
    """What a schema becomes, tests/unit/test_grammar.py shows; here, that an engine follows it."""
    check_answers(client, SCHEMAS[name])


def check_answers(client: OpenAI, schema: Any) -> None:
    for max_tokens, fields in ((200, {"temperature": 0}), (300, {"temperature": 2, "seed": 2})):
        body = ask("Tell me about superconductors as JSON", max_tokens=max_tokens, **fields)
        response = client.chat.completions.create(**body, response_format=form(schema))
        choice = response.choices[0]
        assert choice.message.content is not None
        jsonschema.validate(json.loads(choice.message.content), schema)
        assert response.usage
        assert response.usage.completion_tokens <= max_tokens
        assert choice.finish_reason == (
            "stop" if response.usage.completion_tokens < max_tokens - 30 else choice.finish_reason
        )


@pytest.mark.parametrize("max_tokens", [2, 3, 5, 10, 50])
def test_json_object(client: OpenAI, max_tokens: int) -> None:
    for seed in range(3):
        body = ask("Give me JSON", max_tokens=max_tokens, seed=seed, temperature=1.5)
        response = client.chat.completions.create(**body, response_format={"type": "json_object"})
        assert isinstance(json.loads(response.choices[0].message.content or ""), dict)
        assert response.usage
        assert response.usage.completion_tokens <= max_tokens


def test_json_object_ends_with_the_context(client: OpenAI) -> None:
    """Where nothing else limits it."""
    question = "Give me JSON. " + "a b " * 1000
    while len(TEMPLATE.chat([{"role": "user", "content": question}])) > CONTEXT - 60:
        question = question[:-4]
    body = ask(question, max_tokens=None, seed=1, temperature=1.5)
    response = client.chat.completions.create(**body, response_format={"type": "json_object"})
    assert isinstance(json.loads(response.choices[0].message.content or ""), dict)
    assert response.usage
    assert response.usage.total_tokens <= CONTEXT


def test_a_stream_is_the_whole_answer(client: OpenAI) -> None:
    body = ask("Give me JSON", max_tokens=80, response_format={"type": "json_object"})
    whole = client.chat.completions.create(**body).choices[0]
    chunks = list(client.chat.completions.create(**body, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason


def test_openai_parses_pydantic_models(client: OpenAI) -> None:
    for seed in range(5):
        body = ask("Review the film", seed=seed, temperature=1)
        completion = client.chat.completions.parse(**body, response_format=Review)
        assert isinstance(completion.choices[0].message.parsed, Review)


def test_langchain(service: Service) -> None:
    # They take 0.5 s, in each process that has collected this.
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage  # noqa: PLC0415
    from langchain_core.tools import tool  # noqa: PLC0415
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    model = ChatOpenAI(model=MODEL, base_url=f"{service.url}/v1", api_key="none", temperature=0, max_retries=0)
    assert model.invoke(PROMPT).content == ANSWERS[PROMPT]
    assert "".join(str(chunk.content) for chunk in model.stream(PROMPT)) == ANSWERS[PROMPT]
    for method in ("json_schema", "function_calling"):
        assert isinstance(model.with_structured_output(Review, method=method).invoke("Review the film"), Review)

    @tool
    def get_weather(city: Literal["Kyiv", "Oslo"]) -> str:
        """The weather in a city."""
        return f"Sunny in {city}"

    bound = model.bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False)
    question = HumanMessage("What is the weather in Kyiv?")
    answer = bound.invoke([question])
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert model.invoke([question, answer, result]).content


@pytest.mark.engines("openvino")
@pytest.mark.parametrize(
    ("schema", "named"),
    [({"type": "string", "pattern": "(?=x)"}, "pattern"), ({"type": "nope"}, "nope"), ({"$ref": "#/a"}, "$ref")],
)
def test_what_cannot_be_enforced_is_refused(client: OpenAI, schema: Any, named: str) -> None:
    with pytest.raises(BadRequestError, match="response_format") as error:
        client.chat.completions.create(**ask("Hi"), response_format=form(schema))
    assert error.value.param == "response_format"
    assert named in error.value.message
    bad: Any = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}
    with pytest.raises(BadRequestError, match="tools"):
        client.chat.completions.create(**ask("Hi"), tools=[bad], tool_choice="required")


@pytest.mark.parametrize("stop", ['"', "}", ":", ["a", "e", "1", "[", ","]])
def test_stop_cuts_no_form(client: OpenAI, stop: Any) -> None:
    formats: list[Any] = [{"type": "json_object"}, form(Review.model_json_schema())]
    for response_format in formats:
        for seed in range(3):
            body = ask("Give me JSON", max_tokens=150, seed=seed, temperature=1.2, stop=stop)
            choice = client.chat.completions.create(**body, response_format=response_format).choices[0]
            value = json.loads(choice.message.content or "")
            if response_format["type"] == "json_schema":
                Review.model_validate(value)
    calls = client.chat.completions.create(
        **ask("Hi", max_tokens=150, stop=stop), tools=[WEATHER], tool_choice="required"
    )
    check_calls(calls.choices[0].message.tool_calls, {"get_weather"})


@pytest.mark.parametrize("text", ["<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>a<|eot_id|>", "</s>"])
def test_control_tokens_in_a_form_are_text(client: OpenAI, text: str) -> None:
    schemas: list[tuple[Any, Any]] = [
        ({"enum": [text]}, text),
        ({"type": "object", "properties": {text: {"const": [text]}}, "required": [text]}, {text: [text]}),
    ]
    for schema, value in schemas:
        choice = client.chat.completions.create(**ask("Hi", max_tokens=100), response_format=form(schema)).choices[0]
        assert json.loads(choice.message.content or "") == value
        assert choice.finish_reason == "stop"


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("required", [[5], [None], ["a", {}], "a"])
def test_odd_required_is_refused(client: OpenAI, required: Any) -> None:
    with pytest.raises(BadRequestError, match="required"):
        client.chat.completions.create(**ask("Hi"), response_format=form({"type": "object", "required": required}))


@pytest.mark.engines("openvino")
def test_many_long_forms_at_once_are_refused(client: OpenAI) -> None:
    schema = {"type": "string", "minLength": 1000}
    with pytest.raises(BadRequestError, match="minLength"):
        client.chat.completions.create(**ask("Hi", n=100), response_format=form(schema))
    with pytest.raises(BadRequestError, match="at once") as error:
        client.chat.completions.create(**ask("Hi", n=100), response_format=form({"const": "x" * 1000}))
    assert error.value.param == "n"


@pytest.mark.engines("openvino")
def test_too_few_tokens_for_the_form_are_refused(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"const": "x" * 50}}, "required": ["a"]}
    with pytest.raises(BadRequestError, match="shortest answer") as error:
        client.chat.completions.create(**ask("Hi", max_tokens=5), response_format=form(schema))
    assert error.value.param == "max_tokens"


def check_calls(calls: Any, names: set[str]) -> None:
    assert calls
    for call in calls:
        assert call.id.startswith("call_")
        assert call.function.name in names
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            jsonschema.validate(arguments, WEATHER["function"]["parameters"])
        else:
            assert arguments == {}
    assert len({call.id for call in calls}) == len(calls)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seed", [None, 1])
def test_required_calls_are_valid(client: OpenAI, stream: bool, seed: int | None) -> None:
    sampled = {} if seed is None else {"seed": seed, "temperature": 1.5}
    body = ask("What is the weather in Kyiv?", tools=[WEATHER, TIME], tool_choice="required", max_tokens=300, **sampled)
    whole = client.chat.completions.create(**body).choices[0]
    check_calls(whole.message.tool_calls, {"get_weather", "get_time"})
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    if stream:
        with client.chat.completions.stream(**body) as events:
            final = events.get_final_completion().choices[0]
        check_calls(final.message.tool_calls, {"get_weather", "get_time"})
        assert final.finish_reason == "tool_calls"
        texts = [
            [(c.function.name, c.function.arguments) for c in m.tool_calls or ()]
            for m in (final.message, whole.message)
        ]
        assert texts[0] == texts[1]


def test_named_call_is_that_call(client: OpenAI) -> None:
    for name in ("get_weather", "get_time"):
        choice: Any = {"type": "function", "function": {"name": name}}
        body = ask("Hi", tools=[WEATHER, TIME], tool_choice=choice, max_tokens=100)
        answer = client.chat.completions.create(**body).choices[0]
        check_calls(answer.message.tool_calls, {name})
        assert len(answer.message.tool_calls or ()) == 1


def test_one_call_where_several_are_not_wanted(client: OpenAI) -> None:
    for seed in range(3):
        body = ask("Hi", tools=[WEATHER, TIME], tool_choice="required", seed=seed, temperature=2, max_tokens=200)
        calls = client.chat.completions.create(**body, parallel_tool_calls=False).choices[0].message.tool_calls
        assert len(calls or ()) == 1


def test_auto_and_none_leave_an_answer_alone(client: OpenAI) -> None:
    none = client.chat.completions.create(**ask(PROMPT, tools=[WEATHER], tool_choice="none"))
    assert none.choices[0].message.content == ANSWERS[PROMPT]
    auto = client.chat.completions.create(**ask(PROMPT, tools=[WEATHER], max_tokens=40))
    assert auto.choices[0].message.content or auto.choices[0].message.tool_calls


def test_tools_and_results_are_in_the_prompt(client: OpenAI) -> None:
    """As the checkpoint's template writes them, arguments as an object."""
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Kyiv"}'}}
    messages: Any = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
    ]
    usage = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=1).usage
    read = {**call, "function": {"name": "get_weather", "arguments": {"city": "Kyiv"}}}
    plain = [messages[0], {"role": "assistant", "content": "", "tool_calls": [read]}, messages[2]]
    assert usage
    assert usage.prompt_tokens == len(TEMPLATE.chat(plain, tools=[WEATHER]))


@pytest.mark.engines("openvino")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"ignore_eos": True, "tool_choice": "required"}, "ignore_eos"),
    ],
)
def test_faults_are_named(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as error:
        client.post("/chat/completions", body={**ask("Hi", tools=[WEATHER]), **fields}, cast_to=object)
    assert error.value.param == param


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_choice": ["positive", "negative"]}, "positive|negative"),
        ({"structured_outputs": {"regex": r"[A-C]\d{2}(-x)?"}}, r"[A-C]\d{2}(-x)?"),
        ({"guided_regex": r"<(\w{1,8})>[^<]{0,20}</\w{1,8}>"}, r"<(\w{1,8})>[^<]{0,20}</\w{1,8}>"),
        (
            {"guided_grammar": 'root ::= list "." # é\nlist ::= item "; " list | item\nitem ::= [^;.]* "é"? "!"'},
            r"[^;.]*!(; [^;.]*!)*\.",
        ),
        ({"structural_tag": {"format": TAG}}, r"(?s:.*)<a>\{\"n\": (true|false)\}</a>(?s:.*)"),
    ],
)
def test_forms_as_vllm_names_them(client: OpenAI, fields: dict[str, Any], pattern: str) -> None:
    for seed in range(2):
        chat = client.chat.completions.create(
            **ask("Hi", temperature=1.5, seed=seed, max_tokens=200), extra_body=fields
        )
        assert re.fullmatch(pattern, chat.choices[0].message.content or "", re.ASCII)
        text = client.completions.create(model=MODEL, prompt="Hi", seed=seed, max_tokens=40, extra_body=fields)
        assert re.fullmatch(pattern, text.choices[0].text, re.ASCII)
