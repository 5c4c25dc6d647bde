"""The `generate` endpoint: one prompt, one answer, as server-sent events or as bare text."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import bentoml
from pydantic import BaseModel, ValidationError

from bento_trtllm.api import faults, sse
from bento_trtllm.api.errors import APIError, StreamCut, bad_request, describe
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.routing import named
from bento_trtllm.api.threads import in_thread
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.results import Finish, TextDelta, TokenCounts

# Reading a longer prompt takes milliseconds, in which no other stream would move.
LONG_PROMPT = 16_384


@dataclass(frozen=True)
class GenerateBody:
    """What /generate is asked: a prompt, as text, and how to answer it, in at most `max_tokens` tokens."""

    prompt: str
    system_prompt: str
    max_tokens: int
    sampling: Sampling
    model: str | None = None
    """The model itself, or a variant of it."""


class Fields:
    """What a body of /generate may have: the fields of the model that BentoML makes of the endpoint's signature."""

    def __init__(self, spec: type[BaseModel], *, ignore_unknown: bool) -> None:
        self._spec = spec
        self._ignore_unknown = ignore_unknown

    def check(self, body: Any) -> Any:
        """The body without null, which is as good as absent. Raises APIError.

        Only an empty one is without a prompt on purpose: any other that has none is for another API.
        """
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise bad_request(faults.NO_OBJECT, code="invalid_type")
        known = self._spec.model_fields.keys()
        if not self._ignore_unknown and (unknown := next((name for name in body if name not in known), None)):
            raise faults.describe([{"type": faults.UNKNOWN, "loc": (unknown,)}], body)
        said = {name: value for name, value in body.items() if value is not None}
        given = {name: value for name, value in said.items() if name in known}
        if said and "prompt" not in given:
            raise faults.describe([{"type": "missing", "loc": ("prompt",)}], body)
        try:
            self._spec.model_validate(given)
        except ValidationError as error:
            raise faults.describe(error.errors(), given) from error
        return given if given != body else body


async def respond(model: ServedModel, request: GenerateBody, context: bentoml.Context) -> AsyncGenerator[str, None]:
    """The body of the response, in the form that the Accept header asks for.

    An error before the first text becomes a response of its own, with a status and a JSON body. After that, an
    SSE stream ends with an event `error`, and a bare text is cut so that the client's read fails.
    """
    events = sse.TYPE in context.request.headers.get("accept", "")
    started = False
    try:
        model = named(context.request.scope, request.model or model.name)
        encode = partial(model.template.prompt, request.prompt, request.system_prompt)
        long = len(request.prompt) + len(request.system_prompt) > LONG_PROMPT
        input_ids = await in_thread(encode) if long else encode()
        stream = model.generator.stream(GenerationRequest(input_ids, request.max_tokens, request.sampling))
        async with aclosing(stream) as items:
            async for item in items:
                if not started:
                    kind = sse.TYPE if events else "text/plain; charset=utf-8"
                    context.response.headers.update({"content-type": kind, **sse.HEADERS})
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
