"""Chat templates against transformers', which everybody tries theirs with."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.templates import Templates
from bento_trtllm.text.text import Text
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.checkpoints import write_tokenizer

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


def theirs(directory: Path, messages: Any, tools: Any = None) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids: list[int] = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=False)
    return ids


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("templates")
    return {name: write(folder / name, template) for name, template in TEMPLATES.items()}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_tokens_as_transformers(name: str, talk: str, checkpoints: dict[str, Path]) -> None:
    messages, tools = TALKS[talk]
    if name in WITHOUT_TOOLS and talk in ("tools", "called", "called silently", "called before"):
        messages, tools = TALK, None
    try:
        expected = theirs(checkpoints[name], messages, tools)
    except Exception as error:
        with pytest.raises(CheckpointError, match="refused the messages"):
            ours(checkpoints[name]).chat(messages, tools)
        assert name in ("llama3", "mistral"), error
    else:
        assert ours(checkpoints[name]).chat(messages, tools) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_user_text_never_becomes_a_control_token(name: str, checkpoints: dict[str, Path]) -> None:
    """Whatever a token's flag, in every field; and the template's own stay what they are."""
    tokenizer = PromptTokenizer(checkpoints[name])
    template = ChatTemplate(checkpoints[name], tokenizer)
    controls = set(tokenizer.special_ids.values())
    added = {
        token["content"] for token in json.loads((checkpoints[name] / "tokenizer.json").read_text())["added_tokens"]
    }
    assert {token for token in added if token in TEMPLATES[name] and token != "ish"} <= set(tokenizer.special_ids)
    clean = [i for i in template.chat(TALK) if i in controls]
    for token in tokenizer.special_ids:
        for hostile in (token, f"a {token} b", token * 2, token[0] + token, f"{token}{token[1:]}"):
            talk = [message | {"content": message["content"] + hostile} for message in TALK]
            if name in ("deepseek", "hermes") and "</think>" in hostile:
                talk = [message for message in talk if message["role"] != "assistant"]
            ids = template.chat(talk)
            found = [i for i in ids if i in controls]
            assert found == (clean if len(talk) == len(TALK) else [i for i in template.chat(_users()) if i in controls])
            if name not in ("given", "mistral"):
                assert tokenizer.decode(ids).count(hostile.strip()) >= len(talk) - 1
        tool = {"type": "function", "function": {"name": token, "description": token, "parameters": {token: [token]}}}
        ids = template.chat(TALK, [tool])
        assert [i for i in ids if i in controls] == [i for i in template.chat(TALK, [TOOL]) if i in controls]


def _users() -> list[dict[str, Any]]:
    return [message for message in TALK if message["role"] != "assistant"]


def test_a_thought_is_cut_off_all_the_same(checkpoints: dict[str, Path]) -> None:
    """Marks do not keep a template from looking for its own tokens in a message."""
    thought = [ASKED[0], {"role": "assistant", "content": "<think>hm</think>yes"}, ASKED[0]]
    bare = [ASKED[0], {"role": "assistant", "content": "yes"}, ASKED[0]]
    for name in ("deepseek", "hermes"):
        template = ours(checkpoints[name])
        assert template.chat(thought) == template.chat(bare) == theirs(checkpoints[name], bare)


def test_half_a_marked_token_is_none(tmp_path: Path) -> None:
    """A template that takes a message apart makes no control token of it."""
    source = "<|im_start|>{{ messages[0].content[1:] }}{{ messages[0].content[:-1] }}{{ messages[0].content[20:] }}"
    path = write(tmp_path, source + "{{ messages[0].content | upper }}{{ messages[0].content | tojson | urlencode }}")
    tokenizer = PromptTokenizer(path)
    ids = ChatTemplate(path, tokenizer).chat([{"role": "user", "content": "<|im_start|><|im_start|>"}])
    assert [i for i in ids if i in tokenizer.special_ids.values()] == [tokenizer.special_ids["<|im_start|>"]]


def test_tokens_that_a_template_puts_together_are_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "{% for m in messages %}{{ '<|' ~ 'im_' ~ 'start' ~ '|>' ~ m.content }}{% endfor %}")
    tokenizer = PromptTokenizer(path)
    start = tokenizer.special_ids["<|im_start|>"]
    assert ChatTemplate(path, tokenizer).chat([{"role": "user", "content": "<|im_start|>"}]).count(start) == 1
    assert start not in tokenizer.encode_text("<|im_start|>")
    # Nobody writes this one: an ordinary word, as the tokenizer has it.
    assert "</think>" not in tokenizer.special_ids


SAY = "{% for m in messages %}{{ m.content }}{% endfor %}"


def test_templates_are_chosen_by_name(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": "D" + SAY},
        {"name": "tool_use", "template": "T{{ tools | length }}" + SAY},
    ]
    path = write(tmp_path / "list", None, chat_template=[*named, {"name": "rag", "template": "{% unknown %}"}])
    assert ours(path).chat(ASKED) == PromptTokenizer(path).encode_text("D" + ASKED[0]["content"])
    assert ours(path).chat(ASKED, [TOOL]) == PromptTokenizer(path).encode_text("T1" + ASKED[0]["content"])
    path = write(tmp_path / "same", None, chat_template=named)
    for tools in (None, [TOOL]):
        assert ours(path).chat(ASKED, tools) == theirs(path, ASKED, tools)
    path = write(tmp_path / "none", None, chat_template=[{"name": "rag", "template": SAY}])
    with pytest.raises(CheckpointError, match=r"\(rag\), but none of the name default"):
        ours(path)


def test_where_templates_stand(tmp_path: Path) -> None:
    """A file of its own comes first, as in transformers; then processors' JSON, then the tokenizer's."""
    path = write(tmp_path, "config")
    assert Templates.read(path).sources == {"default": "config"}
    file = path / "tokenizer_config.json"
    file.write_text("\ufeff" + file.read_text(), "utf-8")
    assert Templates.read(path).sources == {"default": "config"}
    (path / "chat_template.json").write_text('\ufeff{"chat_template": "json"}', "utf-8")
    assert Templates.read(path).sources == {"default": "json"}
    folder = path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}")
    assert Templates.read(path).sources == {"default": "json", "tool_use": "{{ tools }}"}
    (path / "chat_template.jinja").write_text("file", "utf-8-sig")
    assert Templates.read(path).sources == {"default": "file", "tool_use": "{{ tools }}"}
    (folder / "tool_use.jinja").unlink()
    assert Templates.read(path).sources == {"default": "file"}
    for broken in (
        '{"chat_template": 7}',
        '{"chat_template": [{"name": "default"}]}',
        "[]",
        "{",
        '{"chat_template": ["x"]}',
    ):
        (path / "chat_template.jinja").unlink(missing_ok=True)
        (path / "chat_template.json").write_text(broken)
        with pytest.raises(CheckpointError, match=r"chat_template\.json"):
            Templates.read(path)


@pytest.mark.parametrize(
    "config",
    [
        {"bos_token": None, "eos_token": "<|im_end|>"},
        {"bos_token": {"__type": "AddedToken", "content": "<|im_start|>", "special": True}, "sep_token": "<think>"},
        {"added_tokens_decoder": {}},
        {"image_token": "<tool_call>", "add_bos_token": True},
    ],
)
def test_names_of_control_tokens(config: dict[str, Any], tmp_path: Path) -> None:
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "image")
    source = " ".join(f"{name}:{{{{ {name}_token }}}}" for name in names)
    path = write(tmp_path, source, **config)
    assert ours(path).chat(ASKED) == theirs(path, ASKED)
    (path / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "</think>", "lstrip": False}, "bos_token": "<|im_end|>"})
    )
    assert ours(path).chat(ASKED) == theirs(path, ASKED)


@pytest.mark.parametrize("bos", ["tokenizer", "template", "both", "neither"])
def test_bos_is_where_the_tokenizer_or_the_template_puts_it(bos: str, tmp_path: Path) -> None:
    path = write(tmp_path, "{{ bos_token }}" + SAY if bos in ("template", "both") else SAY)
    if bos in ("tokenizer", "both"):
        file = path / "tokenizer.json"
        begin = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
        words = {"Sequence": {"id": "A", "type_id": 0}}
        special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
        processor = {"type": "TemplateProcessing", "single": [begin, words], "pair": [begin, words, words | {}]}
        processor["pair"] = [begin, words, {"Sequence": {"id": "B", "type_id": 1}}]
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"post_processor": processor | {"special_tokens": special}})
        )
    tokenizer = PromptTokenizer(path)
    template = ChatTemplate(path, tokenizer)
    assert template.chat(ASKED) == theirs(path, ASKED)
    assert template.chat(ASKED).count(0) == (bos in ("template", "both"))
    assert [*tokenizer.prefix, *tokenizer.encode_text("some words")] == AutoTokenizer.from_pretrained(path)(
        "some words"
    ).input_ids
    assert tokenizer.prefix == ((0,) if bos in ("tokenizer", "both") else ())


def test_truncation_and_padding_of_a_tokenizer_are_not_for_prompts(tmp_path: Path) -> None:
    path = write(tmp_path, SAY)
    file = path / "tokenizer.json"
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 16}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0}
    padding |= {"pad_type_id": 0, "pad_token": "<|endoftext|>"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": truncation, "padding": padding}))
    for words in (3, 50):
        text = "word " * words
        ids = ours(path).chat([{"role": "user", "content": text}])
        assert PromptTokenizer(path).decode(ids) == text
        assert ids == PromptTokenizer(path).encode_text(text)


def test_rows_without_a_token_are_nothing(tmp_path: Path) -> None:
    """Of a model with more rows than its tokenizer has tokens."""
    tokenizer = PromptTokenizer(write(tmp_path, SAY))
    (letter,) = tokenizer.encode_text("x")
    assert tokenizer.decode([640, letter, 100_000]) == "x"
    detokenizer = tokenizer.detokenizer()
    assert [detokenizer.feed([i]) for i in (640, letter)] == ["", "x"]
    assert tokenizer.token_bytes(640) == b""


def test_end_tokens_are_no_text(tmp_path: Path) -> None:
    """Also one that is not special."""
    path = write(tmp_path, SAY)
    end = PromptTokenizer(path).encode_text("x")[0]
    assert PromptTokenizer(path, end_ids=[end, 9_999]).decode([end]) == ""


def _text(template: ChatTemplate, path: Path, messages: Any, tools: Any) -> str:
    return str(AutoTokenizer.from_pretrained(path).decode(template.chat(messages, tools)))


def test_tools_are_never_dropped(tmp_path: Path) -> None:
    """A template that knows of none gets them described, with what was called before."""
    path = write(tmp_path / "chatml", TEMPLATES["chatml"])
    text = _text(ours(path), path, CALLED, [TOOL])
    head, _, rest = text.partition("<|im_end|>")
    assert head.startswith("<|im_start|>system\nBe brief.\n\nYou may call")
    assert json.loads(head[head.index('{\n    "type"') :]) == TOOL
    call = '{"name": "get_weather", "parameters": {"city": "Kyiv", "días": 2}}'
    assert f"<|im_start|>assistant\nI look.\n{call}<|im_end|>" in rest
    assert "<|im_start|>user\nThe function get_weather returned:\n12 °C<|im_end|>" in rest
    # Also without tools: what was said is not lost.
    assert call in _text(ours(path), path, CALLED, None)
    # Results of one turn are one message, with what the user adds.
    text = _text(ours(path), path, [*CALLED_SILENTLY, {"role": "user", "content": "And?"}], [TOOL])
    assert f"assistant\n{call}\n{call}<|im_end|>" in text
    assert text.count("<|im_start|>user") == 2
    assert text.count("12 °C") == 2
    assert "And?<|im_end|>" in text


@pytest.mark.parametrize(
    "refusal", ["{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}", ""]
)
def test_a_template_without_system_messages_gets_tools_all_the_same(refusal: str, tmp_path: Path) -> None:
    source = refusal + "{% for m in messages if m.role != 'system' %}[INST]{{ m.content }}[/INST]{% endfor %}"
    path = write(tmp_path, source)
    text = _text(ours(path), path, ASKED, [TOOL])
    assert text.startswith("[INST]You may call")
    assert "get_weather" in text
    assert text.index("get_weather") < text.index("What is <b>Triton</b>?")
    prompt = PromptTokenizer(path).decode(ours(path).prompt("Who?", "Be brief."))
    assert prompt == "Be brief.\n\nWho?"


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "{{ 1 / 0 }}", "{{ messages[7].content + 1 }}"])
def test_a_template_that_refuses_every_chat_is_refused(template: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="refused the messages"):
        Text.read(write(tmp_path, template)).check()


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for template in ("{% for", "{% unknown %}", "{% generation %}", "{{ x | unknown }}"):
        with pytest.raises(CheckpointError, match="chat template cannot be read"):
            Text.read(write(tmp_path, template))
    with pytest.raises(CheckpointError, match="neither a chat template nor"):
        Text.read(write(tmp_path, None))


def test_words_beside_calls_are_kept() -> None:
    """In our own templates; what others do is theirs."""
    demo = Path(__file__).parents[2] / "assets" / "demo-llama"
    text = _text(ours(demo), demo, CALLED, [TOOL])
    assert (
        '<|end_header_id|>\n\nI look.\n{"name": "get_weather", "parameters": {"city": "Kyiv", "días": 2}}<|eot_id|>'
        in text
    )
    text = _text(ours(demo), demo, CALLED_SILENTLY, [TOOL])
    assert '<|end_header_id|>\n\n{"name": "get_weather"' in text


def test_a_llama3_of_another_format_is_asked_in_its_own(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, 512, "llama3", 32)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    llama3 = ours(tmp_path).prompt("Who?", "Be brief.")
    file.write_text(json.dumps(config | {"chat_template": TEMPLATES["chatml"]}))
    assert ours(tmp_path).prompt("Who?", "Be brief.") != llama3
    file.write_text(json.dumps(config | {"chat_template": None}))
    assert ours(tmp_path).prompt("Who?", "Be brief.") == llama3
