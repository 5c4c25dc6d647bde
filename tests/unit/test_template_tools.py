"""Tools, calls and results reach every template."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import chat
from bento_trtllm.api.openai.requests import ChatRequest
from bento_trtllm.api.tools.formats import LLAMA3
from bento_trtllm.text.text import Text
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.chat_templates import (
    ASKED,
    CALLED,
    CALLED_SILENTLY,
    TEMPLATES,
    TOOL,
    ours,
    shown,
    theirs,
    write,
)


def test_tools_are_never_dropped(tmp_path: Path) -> None:
    """A template that knows of none gets them described, with what was called before."""
    path = write(tmp_path / "chatml", TEMPLATES["chatml"])
    text = shown(ours(path), path, CALLED, [TOOL])
    head, _, rest = text.partition("<|im_end|>")
    assert head.startswith("<|im_start|>system\nBe brief.\n\nYou may call")
    assert json.loads(head[head.index('{\n    "type"') :]) == TOOL
    call = '{"name": "get_weather", "parameters": {"city": "Kyiv", "días": 2}}'
    assert f"<|im_start|>assistant\nI look.\n{call}<|im_end|>" in rest
    assert "<|im_start|>user\nThe function get_weather returned:\n12 °C<|im_end|>" in rest
    # Also without tools: what was said is not lost.
    assert call in shown(ours(path), path, CALLED, None)
    # Results of one turn are one message, with what the user adds.
    text = shown(ours(path), path, [*CALLED_SILENTLY, {"role": "user", "content": "And?"}], [TOOL])
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
    text = shown(ours(path), path, ASKED, [TOOL])
    assert text.startswith("[INST]You may call")
    assert "get_weather" in text
    assert text.index("get_weather") < text.index("What is <b>Triton</b>?")
    prompt = PromptTokenizer(path).decode(ours(path).prompt("Who?", "Be brief."))
    assert prompt == ("Be brief.\n\nWho?" if refusal else "Who?")


def test_words_beside_calls_are_kept() -> None:
    """In our own templates; what others do is theirs."""
    demo = Path(__file__).parents[2] / "assets" / "demo-llama"
    text = shown(ours(demo), demo, CALLED, [TOOL])
    assert (
        '<|end_header_id|>\n\nI look.\n{"name": "get_weather", "parameters": {"city": "Kyiv", "días": 2}}<|eot_id|>'
        in text
    )
    text = shown(ours(demo), demo, CALLED_SILENTLY, [TOOL])
    assert '<|end_header_id|>\n\n{"name": "get_weather"' in text


def asked(directory: Path, messages: Any, tools: Any = None) -> list[int]:
    """The prompt of a request as clients send it."""
    text = Text.read(directory)
    manifest = SimpleNamespace(context_length=8192, vocab_size=640, eos_ids=[0], engine="openvino")
    model = SimpleNamespace(
        manifest=manifest,
        template=text.template,
        tokenizer=text.tokenizer,
        defaults=text.defaults,
        tool_format=LLAMA3,
        thinks=False,
        generator=SimpleNamespace(guided=False),
    )
    body = {"model": "m", "messages": messages, "tools": tools}
    return list(chat.read(ChatRequest.model_validate(body), cast(ServedModel, model)).request.input_ids)


def called(arguments: Any) -> list[dict[str, Any]]:
    function = {"name": "get_weather", "arguments": arguments}
    return [
        ASKED[0],
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "123456789", "type": "function", "function": function}],
        },
        CALLED[-1],
    ]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('{"city": "Kyiv", "n": [1, 2.5, null]}', {"city": "Kyiv", "n": [1, 2.5, None]}),
        ("", {}),
        (" ", {}),
        ("null", {}),
        ("5", "5"),
        ('"Kyiv"', '"Kyiv"'),
        ("[1]", "[1]"),
        ('{"city": ', '{"city": '),
    ],
)
def test_arguments_are_objects_where_they_can_be(sent: str, shown: Any, tmp_path: Path) -> None:
    """Clients send JSON text, and templates are written for what is in it."""
    path = write(tmp_path, TEMPLATES["hermes"])
    assert asked(path, called(sent), [TOOL]) == theirs(path, called(shown), [TOOL])


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_calls_are_none(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, TEMPLATES[name])
    answer = {"role": "assistant", "content": "A server."}
    talk = [*ASKED, answer, *ASKED]
    none: tuple[list[Any] | None, ...] = ([], None)
    for calls in none:
        assert asked(path, [*ASKED, answer | {"tool_calls": calls}, *ASKED]) == theirs(path, talk)
