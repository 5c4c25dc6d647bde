"""What all endpoints that continue a conversation are asked, in the words of chat templates."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from bento_trtllm.api import json_body
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.tools.calls import CallableTool

NO_PARAMETERS: dict[str, Any] = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True)
class Names:
    """What an endpoint calls the fields of a conversation: errors name them."""

    messages: str = "messages"
    max_tokens: str = "max_tokens"


@dataclass(frozen=True)
class Form:
    """What an answer must be, and the field that says so.

    By `kind`: JSON that satisfies a schema, a text that a regular expression matches from end to end, one of texts, a
    text of a grammar in EBNF, or what a structural tag allows.
    """

    name: str
    kind: Literal["schema", "regex", "choice", "grammar", "structural_tag"]
    value: Any


def any_object(name: str) -> Form:
    """Any JSON object."""
    return Form(name, "schema", {"type": "object"})


@dataclass(frozen=True)
class Toolbox:
    """`described` is for the prompt, as OpenAI's API has tools; `callable` are those that the answer may call.

    `forced` says that it must, `several` that it may call more than one.
    """

    described: Sequence[dict[str, Any]] = ()
    callable: tuple[CallableTool, ...] = ()
    forced: bool = False
    several: bool = True


@dataclass(frozen=True)
class Conversation:
    """Messages, each a dictionary as templates know it.

    `variables` are further variables of the template. With `continued` the answer goes on with the last message, and
    with `token_ids` it comes with the ids of its tokens.
    """

    messages: list[dict[str, Any]]
    tools: Toolbox = field(default_factory=Toolbox)
    form: Form | None = None
    max_tokens: int | None = None
    answers: int = 1
    top_logprobs: int | None = None
    continued: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    token_ids: bool = False
    up_to_context: bool = False
    """Whether `max_tokens` may be more than the context holds; the answer then ends where the context does."""


def choose(described: Sequence[dict[str, Any]], choice: str | None, name: str | None, *, several: bool) -> Toolbox:
    """The tools of a request, by its tool_choice: "none", "auto" or "required", or the name of the one to call.

    Raises APIError.
    """
    if not described:
        if name is not None or choice not in (None, "none", "auto"):
            raise bad_request("tool_choice needs tools.", param="tool_choice")
        return Toolbox()
    tools = tuple(_callable(tool["function"]) for tool in described)
    if len({tool.name for tool in tools}) < len(tools):
        raise bad_request("tools has two functions of one name.", param="tools")
    if name is not None:
        named = tuple(tool for tool in tools if tool.name == name)
        if not named:
            raise bad_request(f"tool_choice names {name}, which is not in tools.", param="tool_choice")
        return Toolbox(described, named, forced=True, several=False)
    return Toolbox() if choice == "none" else Toolbox(described, tools, choice == "required", several)


def _callable(function: Mapping[str, Any]) -> CallableTool:
    return CallableTool(function["name"], function.get("parameters") or NO_PARAMETERS)


def arguments(text: str) -> object:
    """A call's arguments as templates want them: an object. Models write broken JSON; it is shown as it is."""
    if not text.strip():
        return {}
    with suppress(ValueError):
        value = json_body.decode(text.encode())
        return value if isinstance(value, dict) else {} if value is None else text
    return text
