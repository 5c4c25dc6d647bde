"""Responses as OpenAI's API defines them. Fields that were not set are left out; null is written on purpose."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bento_trtllm.manifest import Proof

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]
StopReason = str | int | None
"""vLLM's: the stop string, or the token of stop_token_ids, that ended an answer."""


class Response(BaseModel):
    """The base of all."""

    model_config = ConfigDict(protected_namespaces=())

    def dump(self) -> str:
        """As JSON on one line."""
        return self.model_dump_json(exclude_unset=True)


class Usage(Response):
    """Tokens, counted. The end token of an answer counts: the engine made it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Response):
    """A token that could have stood there."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer. `token` is text; where the token is part of a character, `bytes` tell which."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Response):
    """The scores of a chat's answer, or of a part of it."""

    content: list[TokenLogprob]
    refusal: None


class FunctionCall(Response):
    """A function and its arguments, which are JSON text."""

    name: str
    arguments: str


class PromptLogprob(Response):
    """vLLM's: a token of the prompt, or a likely one in its place. The likeliest has rank 1."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""For each token of a prompt, by ids; nothing comes before the first."""


class ToolCall(Response):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(Response):
    """A message of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ChatChoice(Response):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    stop_reason: StopReason = None
    token_ids: list[int] | None = None


class ChatCompletion(Response):
    """The response of /v1/chat/completions without streaming."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionLogprobs(Response):
    """The scores of a completion, in four lists of the same length. A prompt's first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Response):
    """One completion; in a stream, a piece of one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: StopReason = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class Completion(Response):
    """The response of /v1/completions, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ModelCard(Response):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    proof: Proof | None = None
    """Ours: what its log probabilities are off by on this machine, where its engine says so."""
    parent: str | None = None
    """vLLM's: the model that an adapter is for."""


class ModelList(Response):
    """The response of /v1/models."""

    object: Literal["list"]
    data: list[ModelCard]


class Error(Response):
    """What went wrong. `param` is the field that is to blame, `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(Response):
    """The body of every response that is not 200."""

    error: Error
