"""Scores in OpenAI's answers, on a scripted model: their forms, and what is refused where the engine has none."""

from typing import Any

import pytest

from bento_trtllm.generation.source import PromptScore, TokenBatch
from tests.support.demo import TOKENIZER
from tests.support.scripted_app import EOT, ScriptedApp
from tests.support.scripted_source import ScriptedSource

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
(HELLO,) = TOKENIZER.encode_text("Hello")
(WORLD,) = TOKENIZER.encode_text(" A")
PARTS = [token for token in range(2400) if TOKENIZER.token_bytes(token) in (b"\xc3", b"\xe3")]
"""Parts of characters: their texts are alike."""


REFUSED = [
    (CHAT, {**HI, "min_p": 0.1}, "min_p", ("tensorrt",)),
    (CHAT, {**HI, "logprobs": True, "top_logprobs": 2}, "top_logprobs", ("tensorrt", "pytorch")),
    (CHAT, {**HI, "logprobs": True, "top_logprobs": 1, "temperature": 1}, "top_logprobs", ("tensorrt", "pytorch")),
    (CHAT, {**HI, "prompt_logprobs": 0}, "prompt_logprobs", ("tensorrt", "pytorch")),
    (COMPLETIONS, {"prompt": "Hi", "logprobs": 2}, "logprobs", ("tensorrt", "pytorch")),
    (COMPLETIONS, {"prompt": "Hi", "logprobs": 0, "echo": True}, "echo", ("tensorrt", "pytorch")),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 0, "echo": True}, "max_tokens", ("tensorrt", "pytorch")),
    (COMPLETIONS, {"prompt": "Hi", "prompt_logprobs": 1}, "prompt_logprobs", ("tensorrt", "pytorch")),
]


@pytest.mark.parametrize(("path", "body", "param", "lacking"), REFUSED)
async def test_what_an_engine_lacks_is_refused_by_name(
    path: str, body: dict[str, Any], param: str, lacking: tuple[str, ...]
) -> None:
    for engine in ("openvino", "tensorrt", "pytorch"):
        app = ScriptedApp("Hello")
        app.model.manifest = app.model.manifest.model_copy(update={"engine": engine})
        response = await app.post(path, body)
        if engine not in lacking:
            assert response.status_code == 200, response.text
            continue
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param)
        assert error["message"].startswith(f"{param} is not supported by the engine {engine}: ")


WRONG = [
    (CHAT, {**HI, "prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    (COMPLETIONS, {"prompt": "Hi", "prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 0}, "max_tokens"),
    (CHAT, {**HI, "max_tokens": 0}, "max_tokens"),
    (CHAT, {**HI, "prompt_logprobs": 21}, "prompt_logprobs"),
]


@pytest.mark.parametrize(("path", "body", "param"), WRONG)
async def test_what_does_not_go_together(path: str, body: dict[str, Any], param: str) -> None:
    response = await ScriptedApp("Hello").post(path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_chats_likeliest_tokens() -> None:
    """The chosen one need not be among them; control tokens have their names."""
    app = ScriptedApp(TokenBatch([HELLO], [-3.0], [[(WORLD, -0.5), (EOT, -1.0)]]))
    fields = {"logprobs": True, "top_logprobs": 2, "temperature": 1}
    answer = (await app.post(CHAT, {**HI, **fields})).json()
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    assert (entry["token"], entry["logprob"]) == ("Hello", -3.0)
    assert [(each["token"], each["logprob"]) for each in entry["top_logprobs"]] == [(" A", -0.5), ("<|eot_id|>", -1.0)]
    (asked,) = app.source.requests
    assert (asked.top_log_probs, asked.log_probs) == (2, True)


async def test_a_completions_likeliest_tokens_are_by_their_texts() -> None:
    """Of tokens of one text the likeliest counts; the chosen one is there in any case."""
    first, second = PARTS[:2]
    app = ScriptedApp(TokenBatch([HELLO], [-3.0], [[(first, -0.5), (second, -1.0), (WORLD, -2.0)]]))
    body = {"prompt": "Hi", "logprobs": 3, "max_tokens": 5, "temperature": 1}
    (choice,) = (await app.post(COMPLETIONS, body)).json()["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{"\ufffd": -0.5, " A": -2.0, "Hello": -3.0}]


async def test_a_prompts_scores_have_vllms_form() -> None:
    """In a stream of the engine's own pieces, before the answer; the token's own score is there once."""
    ids = [HELLO, WORLD, HELLO]
    pieces = [
        TokenBatch((), prompt=[PromptScore(-4.0, 9, [(HELLO, -1.0), (EOT, -2.0)])]),
        TokenBatch((), prompt=[PromptScore(-1.0, 1, [(HELLO, -1.0), (WORLD, -2.0)])]),
    ]
    app = ScriptedApp()
    app.source = ScriptedSource(choose=lambda request: [*pieces, [HELLO], [EOT]])
    body = {"prompt": ids, "prompt_logprobs": 2, "max_tokens": 5}
    (choice,) = (await app.post(COMPLETIONS, body)).json()["choices"]
    assert choice["text"] == "Hello"

    def entry(logprob: float, rank: int, token: str) -> dict[str, Any]:
        return {"logprob": logprob, "rank": rank, "decoded_token": token}

    assert choice["prompt_logprobs"] == [
        None,
        {
            str(HELLO): entry(-1.0, 1, "Hello"),
            str(EOT): entry(-2.0, 2, "<|eot_id|>"),
            str(WORLD): entry(-4.0, 9, " A"),
        },
        {str(HELLO): entry(-1.0, 1, "Hello"), str(WORLD): entry(-2.0, 2, " A")},
    ]
