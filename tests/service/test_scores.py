"""Scores that OpenVINO's pipeline does not give, from a real service, against the numpy reference."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from openai import APITimeoutError, OpenAI

from bento_trtllm.engines.openvino.reference import Array, Reference
from tests.support.demo import ANSWERS, MODEL, PROMPT, TEMPLATE, TOKENIZER
from tests.support.serving import DEMO, Service

NEAR = 1e-3
"""The pack is f32: keys and values are rounded to nothing."""
IDS = TEMPLATE.chat([{"role": "user", "content": PROMPT}])
LONG = TEMPLATE.chat([{"role": "user", "content": "0123456789" * 20}])
"""More than the scorer takes at once, and an answer is due after it: after digits alone the model may as well end."""
GUIDE = {"response_format": {"type": "json_object"}, "max_tokens": 30}


@pytest.fixture(scope="module")
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.load(DEMO)


def post(client: OpenAI, path: str = "/completions", **fields: Any) -> Any:
    return client.post(path, body={"model": MODEL, "temperature": 0, **fields}, cast_to=object)


def check_top(top: list[tuple[str, float]], row: Array) -> None:
    """The likeliest tokens' texts and scores against a row of the reference, [vocabulary]."""
    if not top:
        return
    best = np.argsort(-row, kind="stable")[: len(top)]
    assert [score for _, score in top] == pytest.approx([float(row[token]) for token in best], abs=NEAR)
    assert {text for text, _ in top} <= {name(token) for token in np.flatnonzero(row >= row[best[-1]] - NEAR)}


def name(token: Any) -> str:
    return TOKENIZER.token_bytes(int(token), named=True).decode("utf-8", "replace")


def check_prompt(found: list[Any], ids: list[int], most: int, rows: Array) -> None:
    """vLLM's prompt_logprobs against the reference's rows [tokens, vocabulary]."""
    assert found[0] is None and len(found) == len(ids)
    for token, row, entries in zip(ids[1:], rows, found[1:], strict=False):
        own = entries[str(token)]
        assert own["logprob"] == pytest.approx(float(row[token]), abs=NEAR)
        low, high = (int((row > row[token] + off).sum()) + 1 for off in (NEAR, -NEAR))
        assert low <= own["rank"] <= high and own["decoded_token"] == name(token)
        top = sorted((each for each in entries.values() if each["rank"] <= most), key=lambda each: each["rank"])
        assert len(entries) == most + (own["rank"] > most) and [each["rank"] for each in top] == [*range(1, most + 1)]
        check_top([(each["decoded_token"], each["logprob"]) for each in top], row)


@pytest.mark.parametrize("most", [0, 20])
def test_scores_of_a_prompt_alone(client: OpenAI, reference: Reference, most: int) -> None:
    answer = post(client, prompt=LONG, prompt_logprobs=most, max_tokens=0)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (len(LONG), 0)
    check_prompt(choice["prompt_logprobs"], LONG, most, reference.log_probs(LONG))


def test_scores_of_a_chats_prompt(client: OpenAI, reference: Reference) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    answer = post(client, "/chat/completions", messages=messages, prompt_logprobs=2, max_tokens=1000)
    assert answer["choices"][0]["message"]["content"] == ANSWERS[PROMPT]
    check_prompt(answer["prompt_logprobs"], IDS, 2, reference.log_probs(IDS))


@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 2, "seed": 5}, {"logit_bias": {"11": -100}, "stream": True}, {**GUIDE, "stream": True}],
    ids=lambda fields: next(iter(fields), "greedy"),
)
def test_likeliest_tokens_of_an_answer(client: OpenAI, reference: Reference, fields: dict[str, Any]) -> None:
    """Whatever chose its tokens, and as they come."""
    asked: Any = {"logprobs": True, "top_logprobs": 7, "max_tokens": 40, "temperature": 0, **fields}
    messages: Any = [{"role": "user", "content": PROMPT}]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, extra_body={"return_token_ids": True}, **asked
    )
    chunks = [each.model_dump() for each in (answer if fields.get("stream") else [answer])]
    ids = [token for chunk in chunks for choice in chunk["choices"] for token in choice.get("token_ids") or ()]
    scored = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    rows = reference.log_probs([*IDS, *ids], len(IDS) - 1)
    assert len(scored) >= 5
    for entry, token, row in zip(scored, ids, rows, strict=False):
        assert bytes(entry["bytes"]) == TOKENIZER.token_bytes(token)
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=NEAR)
        check_top([(each["token"], each["logprob"]) for each in entry["top_logprobs"]], row)


@pytest.mark.parametrize("most", [0, 3])
def test_echo_with_scores(client: OpenAI, reference: Reference, most: int) -> None:
    """As lm-eval reads them: a token's score is that of the likeliest, to the last bit, where it is the likeliest."""
    answer = post(client, prompt=LONG, echo=True, logprobs=most, max_tokens=1)
    (choice,) = answer["choices"]
    scores, made = choice["logprobs"], LONG + TOKENIZER.encode_text(choice["text"])[-1:]
    rows = reference.log_probs(LONG)
    assert len(scores["tokens"]) == len(LONG) + 1 and scores["token_logprobs"][0] is None
    for i, row in enumerate(rows, 1):
        assert scores["token_logprobs"][i] == pytest.approx(float(row[made[i]]), abs=NEAR)
        if most:
            best = scores["top_logprobs"][i]
            check_top(list(best.items())[:most], row)
            if row.argmax() == made[i]:
                assert scores["token_logprobs"][i] == max(best.values())
    assert most or scores["top_logprobs"] is None
    for text, at in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert text.startswith("<|") or choice["text"][at:].startswith(text)
    alone = post(client, prompt=LONG, echo=True, logprobs=most, max_tokens=0)["choices"][0]["logprobs"]
    assert alone == {key: value and value[:-1] for key, value in scores.items()}


def test_an_end_has_its_score_where_the_prompt_has(client: OpenAI) -> None:
    """Else the last token's would be missing, which lm-eval takes off."""
    whole = [*IDS, *TOKENIZER.encode_text(ANSWERS[PROMPT])]
    (choice,) = post(client, prompt=whole, echo=True, logprobs=1, max_tokens=1)["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["tokens"][-1] == "<|eot_id|>" and len(choice["logprobs"]["tokens"]) == len(whole) + 1


def test_a_stream_of_echo_and_scores_is_the_whole(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": LONG, "echo": True, "logprobs": 2, "max_tokens": 5, "temperature": 0}
    whole = client.completions.create(**asked).choices[0]
    parts = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
    assert "".join(part.text for part in parts) == whole.text and whole.logprobs
    for key, values in whole.logprobs.model_dump().items():
        assert [value for part in parts if part.logprobs for value in getattr(part.logprobs, key)] == values, key


def test_many_at_once_and_who_leaves(client: OpenAI, service: Service) -> None:
    """More than the scorer takes at once, with some that leave in the middle: each gets its own scores."""
    prompts = [LONG[: 40 + 9 * i] for i in range(14)]
    alone = [post(client, prompt=prompt, prompt_logprobs=1, max_tokens=0)["choices"][0] for prompt in prompts[:3]]

    def leave(prompt: list[int]) -> None:
        with pytest.raises(APITimeoutError):
            post(client.with_options(timeout=0.02), prompt=prompt * 15, prompt_logprobs=20, max_tokens=200)

    with ThreadPoolExecutor(20) as pool:
        leavers = [pool.submit(leave, LONG) for _ in range(6)]
        asked = [pool.submit(post, client, prompt=prompt, prompt_logprobs=1, max_tokens=0) for prompt in prompts]
        found = [each.result()["choices"][0] for each in asked]
        for leaver in leavers:
            leaver.result()
    assert [each["prompt_logprobs"] for each in found[:3]] == [each["prompt_logprobs"] for each in alone]
    assert [len(each["prompt_logprobs"]) for each in found] == list(map(len, prompts))
