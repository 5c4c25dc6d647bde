"""How many of a prompt's tokens the engine had computed before: from its output to each API's word for it."""

import asyncio
from typing import Any, cast

import pytest
from grpc.aio import EOF
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.deadlines import Watch
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.source import TokenBatch, TokenRequest
from bento_trtllm.generation.turns import Turns
from bento_trtllm.triton.wire.stopping import Call
from bento_trtllm.triton.wire.token_stream import FINAL, Inbox
from tests.support.demo import TOKENIZER
from tests.support.limits import LIMIT_S
from tests.support.scripted_app import ScriptedApp

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


def app(*cached: int | None) -> ScriptedApp:
    """An engine that tells it so in its first, second, … answer."""
    told = iter(cached)

    def choose(request: TokenRequest) -> list[TokenBatch]:
        return [TokenBatch(TOKENIZER.encode_text("Hello"), cached=next(told))]

    return ScriptedApp(choose=choose)


async def usage(app: ScriptedApp, url: str, **body: Any) -> dict[str, Any]:
    response = await app.post(url, body)
    assert response.status_code == 200, response.text
    return cast(dict[str, Any], response.json()["usage"])


async def test_chats_and_completions_tell_it() -> None:
    found = await usage(app(3), "/v1/chat/completions", **HI)
    assert found["prompt_tokens_details"] == {"cached_tokens": 3}
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"]
    nothing = await usage(app(0), "/v1/completions", prompt="Hi")
    assert nothing["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_what_is_not_told_is_left_out() -> None:
    assert set(await usage(app(None), "/v1/chat/completions", **HI)) == {
        *("prompt_tokens", "completion_tokens", "total_tokens")
    }


async def test_a_prompt_counts_once_however_many_answers_it_has() -> None:
    """What the later ones found is what the first one left."""
    found = await usage(app(2, 0, 3, 3), "/v1/completions", prompt=["Hi you", "Hi there"], n=2)
    assert found["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_a_stream_tells_it_at_its_end() -> None:
    body = {**HI, "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    response = await app(3).post("/v1/chat/completions", body)
    assert response.text.count("prompt_tokens_details") == 1
    assert '"prompt_tokens_details":{"cached_tokens":3}' in response.text.splitlines()[-4]


async def test_responses_and_messages_tell_it() -> None:
    found = await usage(app(3), "/v1/responses", input="Hi")
    assert found["input_tokens_details"]["cached_tokens"] == 3
    assert (await usage(app(None), "/v1/responses", input="Hi"))["input_tokens_details"]["cached_tokens"] == 0
    whole = await usage(app(None), "/v1/messages", max_tokens=9, **HI)
    split = await usage(app(3), "/v1/messages", max_tokens=9, **HI)
    # Anthropic's count of a prompt is without those.
    assert (split["input_tokens"], split["cache_read_input_tokens"]) == (whole["input_tokens"] - 3, 3)
    assert whole["cache_read_input_tokens"] == 0


class Wire:
    """A call whose responses tell these numbers."""

    def __init__(self, *told: int) -> None:
        self._told = list(told)

    async def read(self) -> Any:
        if not self._told:
            return EOF
        response = pb.ModelInferResponse()
        for name, value in (("output_ids", 7), ("num_cached_tokens", self._told.pop(0))):
            response.outputs.add(name=name)
            response.raw_output_contents.append(value.to_bytes(4, "little", signed=True))
        response.parameters[FINAL].bool_param = not self._told
        return pb.ModelStreamInferResponse(infer_response=response).SerializeToString()

    def cancel(self) -> None:
        pass


async def _all(inbox: Inbox) -> list[TokenBatch]:
    return [batch async for batch in inbox.batches()]


@pytest.mark.parametrize(("told", "expected"), [((5, 5), 5), ((0,), 0), ((-1, -1), None)])
async def test_the_engines_output_is_read(told: tuple[int, ...], expected: int | None) -> None:
    watch = cast(Watch, type("NoWatch", (), {"progressed": lambda self: None, "why": lambda self, reason: reason})())
    inbox = Inbox(cast(Call, Wire(*told)), watch, EngineUnavailable, lambda: 1, Turns(9))
    try:
        batches = await asyncio.wait_for(_all(inbox), LIMIT_S)
    finally:
        inbox.close()
    assert [token for batch in batches for token in batch.ids] == [7] * len(told)
    assert {batch.cached for batch in batches} == {expected}
