"""Responses and the items in them, as OpenAI's API defines them."""

from typing import Any, Literal

from pydantic import Field

from bento_trtllm.api.dialogue.scores import TokenLogprob
from bento_trtllm.api.response_body import ResponseBody

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(ResponseBody):
    """Text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[TokenLogprob] = Field(default_factory=list)


class ReasoningText(ResponseBody):
    """Text that was thought."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class MessageItem(ResponseBody):
    """A message of the model."""

    id: str
    type: Literal["message"] = "message"
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class ReasoningItem(ResponseBody):
    """What the model thought. There are no summaries: all of it is there."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: Status
    summary: list[Any] = Field(default_factory=list)
    content: list[ReasoningText]


class CallItem(ResponseBody):
    """A call of a function; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str
    name: str
    arguments: str


Item = MessageItem | ReasoningItem | CallItem


class InputTokensDetails(ResponseBody):
    """Those that the engine had computed before; 0 as well where it does not tell, for clients want a number."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(ResponseBody):
    """Tokens of thoughts."""

    reasoning_tokens: int


class ResponseUsage(ResponseBody):
    """Tokens, counted."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(ResponseBody):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class ResponseError(ResponseBody):
    """What went wrong."""

    code: str
    message: str


class ResponseObject(ResponseBody):
    """The response, or what there is of it, with the fields of the request that mean something here."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    previous_response_id: None = None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: str = "default"
    store: Literal[False] = False
    temperature: float | None
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None

    def dump(self) -> str:
        """All fields: clients look for those that are null, too."""
        return self.model_dump_json()
