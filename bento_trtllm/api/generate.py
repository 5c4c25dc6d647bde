"""The `generate` endpoint: one prompt, one answer, as server-sent events or as bare text."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import bentoml

from bento_trtllm.api import sse
from bento_trtllm.api.aside import aside
from bento_trtllm.api.errors import APIError, StreamCut, describe
from bento_trtllm.api.model import ServedModel
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.results import Finish, TextDelta, TokenCounts

EVENT_STREAM = "text/event-stream"
# Reading a longer prompt takes milliseconds, in which no other stream would move.
LONG_PROMPT = 16_384


@dataclass(frozen=True)
class GenerateBody:
    """What /generate is asked: a prompt, as text, and how to answer it, in at most `max_tokens` tokens."""

    prompt: str
    system_prompt: str
    max_tokens: int
    sampling: Sampling


async def respond(model: ServedModel, request: GenerateBody, context: bentoml.Context) -> AsyncGenerator[str, None]:
    """The body of the response, in the form that the Accept header asks for.

    An error before the first text becomes a response of its own, with a status and a JSON body. After that, an
    SSE stream ends with an event `error`, and a bare text is cut so that the client's read fails.
    """
    events = EVENT_STREAM in context.request.headers.get("accept", "")
    started = False
    try:
        encode = partial(model.template.prompt, request.prompt, request.system_prompt)
        long = len(request.prompt) + len(request.system_prompt) > LONG_PROMPT
        input_ids = await aside(encode) if long else encode()
        stream = model.generator.stream(GenerationRequest(input_ids, request.max_tokens, request.sampling))
        async with aclosing(stream) as items:
            async for item in items:
                if not started:
                    context.response.headers["content-type"] = EVENT_STREAM if events else "text/plain; charset=utf-8"
                    context.response.headers["cache-control"] = "no-cache"
                    started = True
                if isinstance(item, TextDelta):
                    yield sse.data({"text": item.text}) if events else item.text
                elif events:
                    yield _finish(item) + sse.DONE
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
    return sse.data({"finish_reason": finish.reason, "usage": _usage(finish.usage)})


def _usage(counts: TokenCounts) -> dict[str, int]:
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
