"""Chat templates in the manner of those that checkpoints come with, and a tokenizer for all of them."""

import json
from pathlib import Path
from typing import Any

from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.checkpoints import write_tokenizer

SAY = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now> & 'then' in a city é",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Kyiv", "días": 2}},
}
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "  What is <b>Triton</b>?\n"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *ASKED]
TALK = [*SYSTEM, {"role": "assistant", "content": "A server."}, {"role": "user", "content": "Whose?"}]
CALLED: list[dict[str, Any]] = [
    *SYSTEM,
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "12 °C"},
]
CALLED_SILENTLY: list[dict[str, Any]] = [
    *ASKED,
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    CALLED[-1],
    CALLED[-1],
]

# In the manner of what checkpoints come with.
TEMPLATES = {
    # Llama 3.1 and 3.2: a custom name for tools, dates, tools in the first user message, trim and tojson(indent).
    "llama3": """{{- bos_token }}
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- if not tools_in_user_message is defined %}{% set tools_in_user_message = true %}{% endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}{% set system_message = "" %}{% endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{ "Environment: ipython\\n" }}{% endif %}
{{- "Date: " + date_string + "\\n" + system_message + "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- set first = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' }}
    {%- for t in tools %}{{ t | tojson(indent=4) }}{{ "\\n\\n" }}{% endfor %}
    {{- first + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim }}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("one call at once!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}{{ message.content }}{% endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    # ChatML, with whitespace outside tags that trim_blocks and lstrip_blocks take away.
    "chatml": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {% endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}""",
    # Marked for training; what is set within stays within.
    "generation": """{%- set said = 0 %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}<|im_start|>assistant
{% generation %}{% set said = 1 %}{{ message.content }}<|im_end|>{{ loop.index ~ said }}{% endgeneration %}{{ said }}
{% else %}{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    # Hermes and Qwen: tags around calls, namespaces, a look back, results that share a turn.
    "hermes": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if message.role == "user" and not message.content.startswith('<tool_response>') %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- for call in message.tool_calls %}
            {%- if call.function %}{% set call = call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    # Mistral: no spaces to spare, ids of nine letters, users and assistants in turn.
    "mistral": """{%- set loop_messages = messages[1:] if messages[0]["role"] == "system" else messages %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- set users = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and message == users[-1] %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' + (('"' + val + '"') if val is string else val | tojson) }}
                    {{- ", " if not loop.last else "}}" }}
                {%- endfor %}
            {%- endfor %}
            {{- "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception("ids have nine letters!") }}{% endif %}
            {{- call.function | tojson | replace('"', "'") + (", " if not loop.last else "]" + eos_token) }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}{{ " " + message["content"] | trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {%- set content = message.content.content if message.content is mapping else message.content %}
        {{- '[TOOL_RESULTS] {"content": ' + content | string + ', "call_id": "' + message.tool_call_id + '"}' }}
    {%- else %}{{ raise_exception("Only user, assistant and tool roles!") }}{% endif %}
{%- endfor %}""",
    # DeepSeek's distills: one line, state in a namespace, thoughts cut off.
    "deepseek": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}"
    "{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + eos_token}}"
    "{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}",
    # What transformers gives to each: names, None, dates, `continue`, and JSON in all its forms.
    "given": "{{ tools is defined }}{{ tools is none }}{{ documents is defined }}{{ documents is none }}"
    "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token is defined }}{{ add_generation_prompt }}"
    "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}{% if loop.index == 1 %}{% continue %}{% endif %}"
    "{{ m | tojson }}{{ m | tojson(indent=2, sort_keys=true) }}{{ m | tojson(ensure_ascii=true) }}"
    "{{ m | tojson(separators=(',', ':')) }}{% endfor %}{{ dict(a=1) | tojson }}",
    # A block begins in the middle of a line, and ends one.
    "blocks": "  {% if true %}  \n\n a {% endif %}\n  {# a comment #}\n{% for m in messages %}\n    {{ m.content }}\n"
    "    {%- if not loop.last %}  {%+ if true %}x{% endif +%}\n{% endif %}\n  {% endfor %}\n\n\n",
}
TALKS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "asked": (ASKED, None),
    "system": (SYSTEM, None),
    "talk": (TALK, None),
    "tools": (SYSTEM, [TOOL, TOOL]),
    "called": (CALLED, [TOOL]),
    "called silently": (CALLED_SILENTLY, [TOOL]),
    "called before": (CALLED, None),
}
# These know of no tools; ours gives them another way (below), transformers not at all.
WITHOUT_TOOLS = {"chatml", "generation", "deepseek", "blocks"}


ADDED: dict[str, dict[str, bool]] = {
    "<|start_header_id|>": {},
    "<|end_header_id|>": {},
    "<|eot_id|>": {},
    "<｜User｜>": {"special": False},
    "<｜Assistant｜>": {"special": False, "rstrip": True},
    "<think>": {"special": False, "lstrip": True},
    "</think>": {"special": False},
    "<tool_call>": {"special": False},
    "[INST]": {"lstrip": True, "rstrip": True},
    "[/INST]": {"rstrip": True},
    "[TOOL_CALLS]": {},
    "ish": {"special": False, "single_word": True},
}


def write(directory: Path, template: str | None = None, **config: Any) -> Path:
    """SmolLM's tokenizer with all these tokens, and a ChatML whose `<|im_start|>` is not special."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, 448, "smollm")
    file = directory / "tokenizer.json"
    data = json.loads(file.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    for i, (content, own) in enumerate(ADDED.items()):
        data["added_tokens"].append({"id": 448 + i, "content": content} | flags | own)
    for token in data["added_tokens"]:
        token["special"] &= token["content"] not in ("<|im_start|>", "<|im_end|>")
    file.write_text(json.dumps(data))
    file = directory / "tokenizer_config.json"
    given = {"chat_template": template, "bos_token": "<|endoftext|>"} | config
    values = json.loads(file.read_text()) | given
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return directory


def ours(directory: Path) -> ChatTemplate:
    return ChatTemplate(directory, PromptTokenizer(directory))


def transformers_tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415  0.6 s, in each process that has collected this

    return AutoTokenizer.from_pretrained(directory)


def theirs(directory: Path, messages: Any, tools: Any = None) -> list[int]:
    tokenizer = transformers_tokenizer(directory)
    ids: list[int] = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=False)
    return ids


def shown(template: ChatTemplate, path: Path, messages: Any, tools: Any) -> str:
    """The prompt as text, with its control tokens."""
    return str(transformers_tokenizer(path).decode(template.chat(messages, tools)))
