"""Tools for a template without support for them: described as text, in the format that api/tools/llama3.py reads."""

import json
from collections.abc import Sequence
from typing import Any

# As in llama3.jinja.
INSTRUCTIONS = (
    "You may call one of the functions below if it helps to answer. To call it, reply with nothing but JSON "
    'in the form {"name": function name, "parameters": {argument name: value}}, with plain values and no variables.'
)

Message = dict[str, Any]


def as_text(messages: Sequence[Message], tools: Sequence[Any] = (), *, system: bool = True) -> list[Message]:
    """The conversation as plain text: the tools, earlier calls, and their results.

    `system` says whether the template supports a system message; otherwise the tools go into the first user message.
    """
    talk: list[Message] = []
    after_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        text = _as_text(message)
        # Merged, for templates that require user and assistant to alternate.
        if after_result and text["role"] == "user":
            talk[-1]["content"] += "\n\n" + text["content"]
        else:
            talk.append(text)
        after_result = is_result or (after_result and text["role"] == "user")
    if not tools:
        return talk
    preamble = describe(tools)
    if not system:
        return _before_user(talk, preamble)
    if talk and talk[0]["role"] == "system":
        return [talk[0] | {"content": "\n\n".join(filter(None, [talk[0]["content"], preamble]))}, *talk[1:]]
    return [{"role": "system", "content": preamble}, *talk]


def describe(tools: Sequence[Any]) -> str:
    """Instructions for calling the tools, and each tool in JSON."""
    return "\n\n".join([INSTRUCTIONS, *(json.dumps(tool, ensure_ascii=False, indent=4) for tool in tools)])


def _as_text(message: Message) -> Message:
    """A message without the fields that such a template does not know."""
    if message["role"] == "tool":
        called = f"function {message['name']}" if message.get("name") else "function"
        return {"role": "user", "content": f"The {called} returned:\n{message['content']}"}
    if not message.get("tool_calls"):
        return dict(message)
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    calls = [_call(call["function"]) for call in message["tool_calls"]]
    return rest | {"content": "\n".join([*filter(None, [message.get("content")]), *calls])}


def _call(function: dict[str, Any]) -> str:
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "parameters": {text}}}'


def _before_user(talk: list[Message], preamble: str) -> list[Message]:
    """With the preamble in the first user message."""
    for i, message in enumerate(talk):
        if message["role"] == "user":
            return [*talk[:i], message | {"content": f"{preamble}\n\n{message['content']}"}, *talk[i + 1 :]]
    return [{"role": "user", "content": preamble}, *talk]
