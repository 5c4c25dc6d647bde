"""Fields that requests of several APIs have. Types are strict, and a field that is not known is refused by name."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bento_trtllm.api.strict import StrictBody

MAX_TOOLS = 128
MAX_BIASES = 4096
MAX_STOP_IDS = 64

Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class ResponseFormatText(StrictBody):
    """Anything."""

    type: Literal["text"]


class ResponseFormatJSONObject(StrictBody):
    """Any JSON object."""

    type: Literal["json_object"]


class SamplingFields(StrictBody):
    """How to choose tokens, by OpenAI's names. From `top_k` on, what OpenAI lacks, by vLLM's.

    All bounds are inclusive: BentoML publishes OpenAPI 3.0, which writes an exclusive one otherwise than pydantic does.
    """

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    stop: Annotated[str, Field(min_length=1)] | Stop | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)] | None = (
        None
    )
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[int], Field(max_length=MAX_STOP_IDS)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
