"""Responses as OpenAI's API defines them."""

from typing import Literal

from bento_trtllm.api.dialogue.scores import TokenLogprob
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.manifest import Proof

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]
StopReason = str | int | None
"""vLLM's: the stop string, or the token of stop_token_ids, that ended an answer."""


class PromptTokensDetails(ResponseBody):
    """Those of a prompt that the engine had computed before."""

    cached_tokens: int


class CompletionUsage(ResponseBody):
    """Tokens, counted. The end token of an answer counts: the engine made it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class ChoiceLogprobs(ResponseBody):
    """The scores of a chat's answer, or of a part of it."""

    content: list[TokenLogprob]
    refusal: None


class FunctionCall(ResponseBody):
    """A function and its arguments, which are JSON text."""

    name: str
    arguments: str


class PromptLogprob(ResponseBody):
    """vLLM's: a token of the prompt, or a likely one in its place. The likeliest has rank 1."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""For each token of a prompt, by ids; nothing comes before the first."""


class ToolCall(ResponseBody):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(ResponseBody):
    """A message of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ChatChoice(ResponseBody):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    stop_reason: StopReason = None
    token_ids: list[int] | None = None


class ChatCompletion(ResponseBody):
    """The response of /v1/chat/completions without streaming."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionLogprobs(ResponseBody):
    """The scores of a completion, in four lists of the same length. A prompt's first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(ResponseBody):
    """One completion; in a stream, a piece of one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: StopReason = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class Completion(ResponseBody):
    """The response of /v1/completions, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = None


class ModelCard(ResponseBody):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    proof: Proof | None = None
    """Ours: what its log probabilities are off by on this machine, where its engine says so."""
    parent: str | None = None
    """vLLM's: the model that it is a variant of."""


class ModelList(ResponseBody):
    """The response of /v1/models."""

    object: Literal["list"]
    data: list[ModelCard]
