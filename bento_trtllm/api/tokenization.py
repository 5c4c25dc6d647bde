"""POST /tokenize and POST /detokenize, as vLLM has them (0.11, entrypoints/openai/protocol.py)."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import Field

from bento_trtllm.api.dialogue.chat import prompt
from bento_trtllm.api.dialogue.context_length import within
from bento_trtllm.api.dialogue.conversation import Conversation, Names, choose
from bento_trtllm.api.dialogue.fields import MAX_TOOLS
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.examples import example
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai.chat import read_messages
from bento_trtllm.api.openai.requests import Message, Tool
from bento_trtllm.api.openai.template_fields import TemplateFields, variables
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.api.routing import LONG_BODY, Route, find, off_loop, served
from bento_trtllm.api.strict import StrictBody

router = APIRouter(tags=["Tokens"], route_class=Route)


class TokenizeRequest(TemplateFields):
    """A text, or a conversation with what stands around it."""

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool | None = None
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    return_token_strs: bool | None = None


class Tokens(ResponseBody):
    """The response of /tokenize."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(StrictBody):
    """Ids of tokens."""

    model: str | None = None
    tokens: Annotated[list[int], Field(fail_fast=True)]


class DetokenizedPrompt(ResponseBody):
    """The response of /detokenize."""

    prompt: str


def install(app: FastAPI) -> None:
    """Add the routes."""
    app.include_router(router)


@router.post("/tokenize", response_model=Tokens, openapi_extra=example(prompt="Hello, world"))
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """The tokens of a text, with what the tokenizer puts before it, or of a conversation's prompt."""
    model = _model(request, body.model)
    ids = await off_loop(request, lambda: _tokens(body, model), LONG_BODY)
    found = Tokens(count=len(ids), max_model_len=model.generator.longest_prompt + 1, tokens=ids)
    if body.return_token_strs:
        found.token_strs = [model.tokenizer.spell([token]) for token in ids]
    return Response(found.dump(), media_type="application/json")


@router.post("/detokenize", response_model=DetokenizedPrompt, openapi_extra=example(tokens=[1, 2, 3]))
async def detokenize(request: Request, body: DetokenizeRequest) -> Response:
    """The text of tokens, control tokens by their names."""
    model = _model(request, body.model)
    size = model.manifest.vocab_size
    wrong = next((i for i, token in enumerate(body.tokens) if not 0 <= token < size), None)
    if wrong is not None:
        raise bad_request(f"tokens[{wrong}]: ids are from 0 to {size - 1}.", param="tokens")
    text = await off_loop(request, lambda: model.tokenizer.spell(body.tokens), LONG_BODY)
    return Response(DetokenizedPrompt(prompt=text).dump(), media_type="application/json")


def _model(request: Request, name: str | None) -> ServedModel:
    return served(request) if name is None else find(request, name)


def _tokens(body: TokenizeRequest, model: ServedModel) -> list[int]:
    if body.messages is None:
        if body.prompt is None:
            raise bad_request("Give prompt or messages.", param="prompt")
        with within(model.manifest.context_length, "prompt"):
            prefix = () if body.add_special_tokens is False else model.tokenizer.prefix
            return [*prefix, *model.tokenizer.encode_text(body.prompt)]
    if body.prompt is not None:
        raise bad_request("Give prompt or messages, not both.", param="prompt")
    messages = read_messages(body.messages)
    continued, others = variables(body, messages)
    described = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
    tools = choose(described, None, None, several=True)
    return prompt(Conversation(messages, tools, continued=continued, variables=others), model, Names())
