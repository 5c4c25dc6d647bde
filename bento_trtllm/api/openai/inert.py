"""Fields of OpenAI's and vLLM's requests that change nothing here, with the values that are taken.

Clients always send them, or leave them at their defaults. One that would change the answer is refused with a reason.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from bento_trtllm.api.refused import NotHere, because
from bento_trtllm.api.strict import StrictBody

Nothing = Annotated[list[Any], Field(max_length=0)] | None


class InertSampling(StrictBody):
    """For all requests; vLLM's, by its names."""

    user: str | None = None
    priority: int | None = None
    request_id: str | None = None
    spaces_between_special_tokens: bool | None = None
    length_penalty: float | None = None
    early_stopping: Annotated[Literal[False] | None, because("there is no beam search here")] = None
    use_beam_search: Annotated[Literal[False] | None, because("there is no beam search here")] = None
    detokenize: Annotated[Literal[True] | None, because("answers are text here")] = None
    return_tokens_as_token_ids: Annotated[Literal[False] | None, because("tokens are text here")] = None
    logits_processors: Annotated[Nothing, because("clients' code is not run here")] = None
    truncate_prompt_tokens: Annotated[None, because("a prompt is never cut here")] = None
    bad_words: Annotated[Nothing, because("a logit_bias of -100 keeps tokens out")] = None
    allowed_token_ids: NotHere = None
    kv_transfer_params: NotHere = None
    vllm_xargs: NotHere = None


class InertChat(InertSampling):
    """For chats; OpenAI's."""

    metadata: dict[str, str] | None = None
    store: Annotated[Literal[False] | None, because("nothing is kept here")] = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prediction: dict[str, Any] | None = None
    moderation: NotHere = None
    modalities: Annotated[list[Literal["text"]] | None, because("only text is made here")] = None
    audio: Annotated[None, because("only text is made here")] = None
    web_search_options: Annotated[None, because("the web is not searched here")] = None
    mm_processor_kwargs: Annotated[None, because("only text is read here")] = None
    include_reasoning: Annotated[Literal[True] | None, because("what a model thinks is always shown here")] = None
    add_special_tokens: Annotated[Literal[False] | None, because("the template writes all special tokens")] = None
    best_of: Annotated[Literal[1] | None, because("a chat has as many answers as n says")] = None
    documents: Annotated[Nothing, because("this server does not do that")] = None
