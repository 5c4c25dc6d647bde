"""A request of Anthropic's in the words that all conversations have."""

from typing import Any

from bento_trtllm.api.anthropic.requests import (
    Message,
    MessagesRequest,
    Prompt,
    TextBlockParam,
    ThinkingBlockParam,
    ToolChoiceTool,
    ToolParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
)
from bento_trtllm.api.dialogue.chat import Chat, prompt, understand
from bento_trtllm.api.dialogue.conversation import Conversation, Form, Names, Toolbox, choose
from bento_trtllm.api.dialogue.fields import SamplingFields
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.model import ServedModel

NAMES = Names("messages", "max_tokens")
# Between blocks, and between turns of one role, which make one.
BREAK = "\n\n"
CHOICES = {"auto": "auto", "any": "required", "none": "none"}

Turn = dict[str, Any]


def read(request: MessagesRequest, model: ServedModel) -> Chat:
    """Understand a request. Raises APIError, and CheckpointError where the template refuses the messages."""
    sampling = SamplingFields(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=request.stop_sequences or None,
    )
    return understand(_conversation(request, request.max_tokens), sampling, model, NAMES)


def count(request: Prompt, model: ServedModel) -> int:
    """How many tokens the prompt of a request has. Raises as `read`."""
    return len(prompt(_conversation(request, None), model, NAMES))


def has_form(request: Prompt) -> bool:
    """Whether the answer's form is prescribed, which is more to read than text of that length."""
    return bool(request.tools or (request.output_config and request.output_config.format))


def _conversation(request: Prompt, max_tokens: int | None) -> Conversation:
    talk: list[Turn] = []
    if request.system:
        system = request.system if isinstance(request.system, str) else _joined(request.system)
        talk.append({"role": "system", "content": system})
    names: dict[str, str] = {}
    for i, message in enumerate(request.messages):
        for turn in _turns(message, names, f"messages[{i}]"):
            _append(talk, turn)
    continued = talk[-1]["role"] == "assistant"
    if continued and "tool_calls" in talk[-1]:
        raise bad_request("messages ends with tool_use: send the tool_result, too.", param="messages")
    form = request.output_config.format if request.output_config else None
    thinking = {} if request.thinking is None else {"enable_thinking": request.thinking.type != "disabled"}
    return Conversation(
        talk,
        _tools(request),
        Form("output_config.format", "schema", form.json_schema) if form else None,
        max_tokens,
        continued=continued,
        variables=thinking,
        up_to_context=True,
    )


def _turns(message: Message, names: dict[str, str], at: str) -> list[Turn]:
    """A message as templates know it; results of tools are messages of their own, before the words beside them."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    own: Turn = {"role": message.role, "content": _joined(b for b in message.content if isinstance(b, TextBlockParam))}
    results: list[Turn] = []
    for j, block in enumerate(message.content):
        if isinstance(block, ToolResultBlockParam):
            _check(message.role == "user", "tool_result", "user", f"{at}.content[{j}]")
            results.append(_result(block, names))
        elif isinstance(block, ToolUseBlockParam):
            _check(message.role == "assistant", "tool_use", "assistant", f"{at}.content[{j}]")
            names[block.id] = block.name
            function = {"name": block.name, "arguments": block.input}
            own.setdefault("tool_calls", []).append({"id": block.id, "type": "function", "function": function})
        elif isinstance(block, ThinkingBlockParam) and message.role == "assistant":
            own["reasoning_content"] = own.get("reasoning_content", "") + block.thinking
    return [*results, own] if own["content"] or len(own) > 2 or not results else results


def _check(right: bool, block: str, role: str, at: str) -> None:
    if not right:
        raise bad_request(f"{at}: a {block} block stands in a message of the role {role}.", param=at)


def _result(block: ToolResultBlockParam, names: dict[str, str]) -> Turn:
    content = block.content if isinstance(block.content, str) else _joined(block.content or ())
    name = names.get(block.tool_use_id)
    # Templates have no other way to say it.
    said = f"Error: {content}" if block.is_error else content
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": said, **({"name": name} if name else {})}


def _append(talk: list[Turn], turn: Turn) -> None:
    """Add a turn; two of one role, which many templates refuse, are one."""
    last = talk[-1] if talk else None
    if last is None or last["role"] != turn["role"] or turn["role"] == "tool":
        talk.append(turn)
        return
    last["content"] = BREAK.join(filter(None, [last["content"], turn["content"]]))
    for key in ("tool_calls", "reasoning_content"):
        if key in turn:
            last[key] = last[key] + turn[key] if key in last else turn[key]


def _joined(blocks: Any) -> str:
    return BREAK.join(block.text for block in blocks)


def _tools(request: Prompt) -> Toolbox:
    described = [_described(tool) for tool in request.tools or ()]
    wanted = request.tool_choice
    several = not getattr(wanted, "disable_parallel_tool_use", None)
    if isinstance(wanted, ToolChoiceTool):
        return choose(described, None, wanted.name, several=several)
    return choose(described, CHOICES[wanted.type] if wanted else None, None, several=several)


def _described(tool: ToolParam) -> Turn:
    """A tool as chat templates know it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}
