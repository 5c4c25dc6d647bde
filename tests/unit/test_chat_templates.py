"""Chat templates against transformers', which everybody tries theirs with."""

import json
from pathlib import Path
from typing import Any

import pytest

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.templates import Templates
from bento_trtllm.text.text import Text
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.chat_templates import (
    ASKED,
    SAY,
    TALK,
    TALKS,
    TEMPLATES,
    TOOL,
    WITHOUT_TOOLS,
    ours,
    theirs,
    transformers_tokenizer,
    write,
)
from tests.support.checkpoints import write_tokenizer


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("templates")
    return {name: write(folder / name, template) for name, template in TEMPLATES.items()}


@pytest.fixture(scope="module")
def templates(checkpoints: dict[str, Path]) -> dict[str, ChatTemplate]:
    return {name: ours(path) for name, path in checkpoints.items()}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_tokens_as_transformers(
    name: str, talk: str, checkpoints: dict[str, Path], templates: dict[str, ChatTemplate]
) -> None:
    messages, tools = TALKS[talk]
    if name in WITHOUT_TOOLS and talk in ("tools", "called", "called silently", "called before"):
        messages, tools = TALK, None
    try:
        expected = theirs(checkpoints[name], messages, tools)
    except Exception as error:
        with pytest.raises(CheckpointError, match="refused the messages"):
            templates[name].chat(messages, tools)
        assert name in ("llama3", "mistral"), error
    else:
        assert templates[name].chat(messages, tools) == expected


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
    with pytest.raises(CheckpointError, match=r"\(rag\), but none with the name default"):
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


def test_a_llama3_of_another_format_is_asked_in_its_own(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, 512, "llama3", 32)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    llama3 = ours(tmp_path).prompt("Who?", "Be brief.")
    file.write_text(json.dumps(config | {"chat_template": TEMPLATES["chatml"]}))
    assert ours(tmp_path).prompt("Who?", "Be brief.") != llama3
    file.write_text(json.dumps(config | {"chat_template": None}))
    assert ours(tmp_path).prompt("Who?", "Be brief.") == llama3


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    """As those of Llama 2, which write a space as `▁`."""
    path = write(tmp_path, SAY)
    Text.read(path).check()
    file = path / "tokenizer.json"
    space = {"replacement": "▁", "prepend_scheme": "first", "split": False}
    data = json.loads(file.read_text())
    data["model"]["vocab"] = {token.replace("Ġ", "▁"): i for token, i in data["model"]["vocab"].items()}
    data["model"]["merges"] = []
    data |= {"pre_tokenizer": {"type": "Metaspace"} | space, "decoder": {"type": "Metaspace"} | space}
    file.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="not byte-level"):
        Text.read(path).check()


BEGUN = [*ASKED, {"role": "assistant", "content": "A server. "}]


# transformers looks for the word in the source.
@pytest.mark.parametrize("name", [name for name, source in TEMPLATES.items() if "content" in source])
def test_a_last_message_is_continued_as_in_transformers(name: str, checkpoints: dict[str, Path]) -> None:
    tokenizer = transformers_tokenizer(checkpoints[name])
    try:
        expected = tokenizer.apply_chat_template(BEGUN, continue_final_message=True, return_dict=False)
    except Exception:
        with pytest.raises(CheckpointError):
            ours(checkpoints[name]).chat(BEGUN, continued=True)
        return
    assert ours(checkpoints[name]).chat(BEGUN, continued=True) == expected
