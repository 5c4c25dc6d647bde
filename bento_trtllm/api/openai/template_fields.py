"""How a chat template is to be filled in, as vLLM names it (0.11, entrypoints/openai/protocol.py)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.refused import because
from bento_trtllm.api.strict import StrictBody

# Of templates; they have fields of their own.
TAKEN = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message", "continued"})


class TemplateFields(StrictBody):
    """The fields of a request; `chat_template_kwargs` are further variables."""

    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Annotated[None, because("prompts are written by the checkpoint's own template only")] = None


def variables(request: TemplateFields, messages: Sequence[Mapping[str, Any]]) -> tuple[bool, dict[str, Any]]:
    """Whether the answer goes on with the last message, and the template's further variables. Raises APIError."""
    given = request.chat_template_kwargs or {}
    if wrong := TAKEN & given.keys():
        field = f"chat_template_kwargs.{min(wrong)}"
        raise bad_request(f"{field}: this variable of the template is a field of the request.", param=field)
    continued = bool(request.continue_final_message)
    if continued and request.add_generation_prompt:
        raise bad_request(
            "Give add_generation_prompt or continue_final_message, not both.", param="continue_final_message"
        )
    if continued and messages[-1].get("tool_calls"):
        raise bad_request("The last message calls tools: it cannot be continued.", param="continue_final_message")
    if request.add_generation_prompt is False:
        given = {**given, "add_generation_prompt": False}
    return continued, given
