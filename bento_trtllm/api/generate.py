"""The `generate` endpoint: one question, one answer, as server-sent events or as bare text."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import bentoml

from bento_trtllm.api import sse
from bento_trtllm.api.aside import aside
from bento_trtllm.api.errors import APIError, StreamCut, describe
from bento_trtllm.generation.generator import Finish, Sampling, TextStreams
from bento_trtllm.generation.output import Piece
from bento_trtllm.text.template import ChatTemplate

EVENT_STREAM = "text/event-stream"
# Reading a longer prompt takes milliseconds, in which no other stream would move.
LONG_PROMPT = 16_384


class Model(Protocol):
    """What is asked: llm.LLM."""

    template: ChatTemplate
    streams: TextStreams


@dataclass(frozen=True)
class Question:
    """One prompt and how to answer it."""

    prompt: str
    system_prompt: str
    max_tokens: int
    sampling: Sampling


async def respond(model: Model, question: Question, context: bentoml.Context) -> AsyncGenerator[str, None]:
    """The body of the response, in the form that the Accept header asks for.

    An error before the first text becomes a response of its own, with a status and a JSON body. After that, an
    SSE stream ends with an event `error`, and a bare text is cut so that the client's read fails.
    """
    events = EVENT_STREAM in context.request.headers.get("accept", "")
    started = False
    try:
        encode = partial(model.template.prompt, question.prompt, question.system_prompt)
        long = len(question.prompt) + len(question.system_prompt) > LONG_PROMPT
        input_ids = await aside(encode) if long else encode()
        stream = model.streams.stream(input_ids, question.max_tokens, question.sampling)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                if not started:
                    context.response.headers["content-type"] = EVENT_STREAM if events else "text/plain; charset=utf-8"
                    context.response.headers["cache-control"] = "no-cache"
                    started = True
                if isinstance(piece, Piece):
                    yield sse.data({"text": piece.text}) if events else piece.text
                elif events:
                    yield _finish(piece) + sse.DONE
    except Exception as error:
        failure = describe(error)
        if not started:
            yield refuse(failure, context)
        elif events:
            yield sse.error(failure.body())
        else:
            raise StreamCut(failure.message) from error


def refuse(error: APIError, context: bentoml.Context) -> str:
    """The whole response for a request that failed before it had an answer."""
    context.response.status_code = error.status
    context.response.headers.update({"content-type": "application/json", **error.headers})
    return sse.json_text(error.body())


def _finish(finish: Finish) -> str:
    return sse.data({"finish_reason": finish.reason, "usage": finish.usage.body()})
