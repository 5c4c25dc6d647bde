"""How answers end, and what is counted then: the same on all engines."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.demo import ANSWERS, PROMPT
from tests.support.serving import DEMO, MACHINES, Service

pytestmark = pytest.mark.engines
TOKENIZER = PromptTokenizer(DEMO)
WHOLE = len(TOKENIZER.encode_text(ANSWERS[PROMPT]))


def ask(service: Service, **fields: Any) -> dict[str, Any]:
    body = {"model": "demo-llama", "temperature": 0, "messages": [{"role": "user", "content": PROMPT}], **fields}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_end_token_counts(service: Service) -> None:
    """Whether the engine sends it, as OpenVINO does, or keeps it to itself."""
    for limit in (WHOLE + 1, 1000):
        answer = ask(service, max_tokens=limit)
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["choices"][0]["message"]["content"] == ANSWERS[PROMPT]
        assert answer["usage"]["completion_tokens"] == WHOLE + 1
    cut = ask(service, max_tokens=WHOLE - 1)
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", WHOLE - 1)


def test_a_stop_string_counts_no_more_than_its_tokens(service: Service) -> None:
    shown = ANSWERS[PROMPT].partition("resistance")[0]
    least = len(TOKENIZER.encode_text(shown + "resistance"))
    answer = ask(service, stop="resistance")
    assert answer["choices"][0]["message"]["content"] == shown
    assert answer["usage"]["completion_tokens"] == least


def test_min_tokens(service: Service, engine: str, home: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen.jsonl"
    if machine := MACHINES.get(home):
        machine.wish(record=str(seen))
    answer = ask(service, min_tokens=WHOLE + 40, max_tokens=WHOLE + 200)
    assert answer["usage"]["completion_tokens"] >= WHOLE + 40
    assert ask(service, min_tokens=5)["usage"]["completion_tokens"] == WHOLE + 1
    assert ask(service, min_tokens=5, logit_bias={"100": -100})["usage"]["completion_tokens"] == WHOLE + 1
    ask(service, min_tokens=5, ignore_eos=True, max_tokens=9)
    if machine:
        machine.wish()
        ends = [TOKENIZER.special_ids[name] for name in ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")]
        first, _, biased, endless = (json.loads(line) for line in seen.read_text().splitlines())
        # The end of a turn is the end_id, which min_tokens holds back; the others never come.
        assert first["end_id"] == ends[0] and first["stop_words"] == []
        assert sorted(first["bad_words"]) == sorted([[i] for i in ends[1:]])
        assert sorted(biased["bad_words"]) == sorted([[i] for i in [*ends[1:], 100]])
        # At 0.10.0 a min_length without an end_id writes beside the logits.
        assert endless["end_id"] is None and endless["sampling"]["min_tokens"] is None


def test_tokens_that_were_asked_for_end_it(service: Service) -> None:
    """An id, and the name of a control token, with and without it in the answer."""
    tokens = TOKENIZER.encode_text(ANSWERS[PROMPT])
    token = tokens[10]
    first = tokens.index(token)
    answer = ask(service, stop_token_ids=[token])
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == TOKENIZER.decode(tokens[:first])
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", token)
    assert answer["usage"]["completion_tokens"] == first + 1
    fields = {"stop": "<|eot_id|>", "ignore_eos": True, "skip_special_tokens": False, "max_tokens": WHOLE + 50}
    for keep in (False, True):
        (choice,) = ask(service, **fields, include_stop_str_in_output=keep)["choices"]
        assert choice["message"]["content"] == ANSWERS[PROMPT] + "<|eot_id|>" * keep
        assert choice["stop_reason"] == "<|eot_id|>"


TOOL = {
    "type": "function",
    "function": {
        "name": "rm",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
NAMED = {"type": "function", "function": {"name": "rm"}}


@pytest.mark.engines("openvino")
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_that_was_cut_is_whole_and_says_so(service: Service, choice: Any) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "seed": 0, "temperature": 1.3}
    reasons = set()
    for limit in (24, 26, 30, 500):
        (answer,) = ask(service, **fields, max_tokens=limit)["choices"]
        for call in answer["message"]["tool_calls"]:
            assert isinstance(json.loads(call["function"]["arguments"])["path"], str)
        reasons.add(answer["finish_reason"])
        assert limit == 500 or answer["finish_reason"] == "length"
    assert "length" in reasons
