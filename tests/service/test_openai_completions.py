"""/v1/completions: prompts as text and as token ids, one and many."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.support.demo import ANSWERS, MODEL, PROMPT, TEMPLATE, TOKENIZER
from tests.support.serving import Service

pytestmark = pytest.mark.engines
CHAT_IDS = TEMPLATE.chat([{"role": "user", "content": PROMPT}])
OTHER = "Say hello in Japanese"
OTHER_IDS = TEMPLATE.chat([{"role": "user", "content": OTHER}])


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def test_token_ids_are_taken_as_they_are(client: OpenAI) -> None:
    response = client.completions.create(model=MODEL, prompt=CHAT_IDS, max_tokens=1000)
    (choice,) = response.choices
    assert choice.text == ANSWERS[PROMPT]
    assert choice.finish_reason == "stop"
    assert response.usage
    assert response.usage.prompt_tokens == len(CHAT_IDS)
    assert response.usage.completion_tokens == len(TOKENIZER.encode_text(choice.text)) + 1


def test_text_is_read_as_the_tokenizer_reads_it(client: OpenAI) -> None:
    """With the first token in front; control tokens in it are plain characters."""
    for prompt in ("A superconductor is", "a <|eot_id|> b"):
        response = client.completions.create(model=MODEL, prompt=prompt)
        assert response.usage
        assert response.usage.prompt_tokens == 1 + len(TOKENIZER.encode_text(prompt))
        assert response.usage.completion_tokens <= 16  # OpenAI's default


def test_lists_of_prompts(client: OpenAI) -> None:
    both = client.completions.create(model=MODEL, prompt=[CHAT_IDS, OTHER_IDS], max_tokens=500, n=2)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices] == [ANSWERS[PROMPT]] * 2 + [ANSWERS[OTHER]] * 2
    assert both.usage
    assert both.usage.prompt_tokens == len(CHAT_IDS) + len(OTHER_IDS)
    texts = ["A superconductor is", "Triton is"]
    several = client.completions.create(model=MODEL, prompt=texts, seed=3, temperature=1)
    alone = [client.completions.create(model=MODEL, prompt=text, seed=3, temperature=1) for text in texts]
    assert [choice.text for choice in several.choices] == [response.choices[0].text for response in alone]


def test_streams_choices_and_usage(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(
            model=MODEL, prompt=[CHAT_IDS, OTHER_IDS], max_tokens=500, stream=True, stream_options=options
        )
    )
    texts = {0: "", 1: ""}
    reasons = {}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason
        assert chunk.usage is None
    assert texts == {0: ANSWERS[PROMPT], 1: ANSWERS[OTHER]}
    assert reasons == {0: "stop", 1: "stop"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.prompt_tokens == len(CHAT_IDS) + len(OTHER_IDS)


@pytest.mark.parametrize("stream", [False, True])
def test_echo(client: OpenAI, stream: bool) -> None:
    prompt = "A superconductor is"
    plain = client.completions.create(model=MODEL, prompt=prompt).choices[0].text
    response: Any = client.completions.create(model=MODEL, prompt=prompt, echo=True, stream=stream)
    chunks = response if stream else [response]
    assert "".join(chunk.choices[0].text for chunk in chunks) == prompt + plain


def test_logprobs(client: OpenAI) -> None:
    response = client.completions.create(model=MODEL, prompt=CHAT_IDS, max_tokens=40, logprobs=1, temperature=0)
    (choice,) = response.choices
    scores = choice.logprobs
    assert scores and scores.tokens and scores.token_logprobs and scores.text_offset and scores.top_logprobs
    assert "".join(scores.tokens) == choice.text
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == 40
    assert [
        choice.text[offset:][: len(token)] for token, offset in zip(scores.tokens, scores.text_offset, strict=True)
    ] == scores.tokens
    streamed = client.completions.create(model=MODEL, prompt=CHAT_IDS, max_tokens=40, logprobs=0, stream=True)
    offsets = [offset for chunk in streamed if (part := chunk.choices[0].logprobs) for offset in part.text_offset or ()]
    assert offsets == scores.text_offset


@pytest.mark.engines("openvino")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [[1], "x"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"messages": []}, "messages"),
    ],
)
def test_faults_are_named(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as error:
        client.post("/completions", body={"model": MODEL, "prompt": "x", **fields}, cast_to=object)
    assert error.value.param is not None
    assert error.value.param.startswith(param)
