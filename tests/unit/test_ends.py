"""Which of a checkpoint's end tokens is the one that ends a chat's turn."""

import json
from pathlib import Path
from typing import Any

import pytest

from bento_trtllm.text.ends import end_tokens
from tests.support.checkpoints import CHATML_TEMPLATE, LLAMA3_TEMPLATE, write_tokenizer

NAMES = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]


def directory(path: Path, family: str, **config: Any) -> tuple[Path, dict[str, int]]:
    """A tokenizer's files with these values in tokenizer_config.json, and its control tokens."""
    path.mkdir()
    write_tokenizer(path, 512, family, 32)
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    added = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    return path, {token["content"]: token["id"] for token in added}


def test_what_the_template_writes_after_an_answer(tmp_path: Path) -> None:
    path, ids = directory(tmp_path / "a", "llama3", chat_template=LLAMA3_TEMPLATE, eos_token="<|end_of_text|>")
    _, text, turn = (ids[name] for name in NAMES)
    for given in ([text, turn], [turn, text]):
        assert end_tokens(path, given) == (turn, text)
    # Else every answer of a chat would run to its limit.
    assert end_tokens(path, [text]) == (turn, text)
    path, ids = directory(tmp_path / "b", "smollm", chat_template=CHATML_TEMPLATE)
    assert end_tokens(path, [ids["<|endoftext|>"]]) == (ids["<|im_end|>"], ids["<|endoftext|>"])


def test_without_a_template_the_tokenizers_own(tmp_path: Path) -> None:
    path, ids = directory(tmp_path / "a", "llama3", chat_template=None, eos_token="<|end_of_text|>")
    start, text, turn = (ids[name] for name in NAMES)
    assert end_tokens(path, [turn, text]) == (text, turn)
    assert end_tokens(path, [turn]) == (text, turn)
    path, _ = directory(tmp_path / "b", "llama3", chat_template=None, eos_token={"content": "<|eot_id|>"})
    assert end_tokens(path, [text, turn, start]) == (turn, text, start)
    path, _ = directory(tmp_path / "c", "llama3", chat_template=None, eos_token=None)
    assert end_tokens(path, [text, turn]) == (text, turn)


@pytest.mark.parametrize(
    "template",
    ["{% for", "{{ raise_exception('no') }}", "{{ messages[1].content }}", "{{ 1 + '' }}", "<|end_of_text|>"],
)
def test_a_template_that_says_nothing(template: str, tmp_path: Path) -> None:
    path, ids = directory(tmp_path / "a", "llama3", chat_template=template, eos_token="<|eot_id|>")
    text, turn = ids["<|end_of_text|>"], ids["<|eot_id|>"]
    assert end_tokens(path, [text, turn]) == (turn, text)  # the tokenizer's


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", '{"added_tokens": [7]}'])
def test_files_that_cannot_be_read_change_nothing(name: str, content: str, tmp_path: Path) -> None:
    path, _ = directory(tmp_path / "a", "llama3", chat_template=LLAMA3_TEMPLATE)
    (path / name).write_text(content)
    assert end_tokens(path, [3, 4]) == (3, 4)


def test_ends_that_are_not_special(tmp_path: Path) -> None:
    """As those of many ChatML tunes, whose generation config names what ended the base model's texts."""
    path, ids = directory(
        tmp_path / "a", "smollm", chat_template="{% generation %}" + CHATML_TEMPLATE + "{% endgeneration %}"
    )
    file = path / "tokenizer.json"
    data = json.loads(file.read_text())
    for token in data["added_tokens"]:
        token["special"] = False
    file.write_text(json.dumps(data))
    assert end_tokens(path, [ids["<|endoftext|>"]]) == (ids["<|im_end|>"], ids["<|endoftext|>"])
    # What the tokenizer says counts, too.
    config = path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "{{ messages[1].content }}", "eos_token": "<|im_end|>"}))
    assert end_tokens(path, [ids["<|endoftext|>"]]) == (ids["<|im_end|>"], ids["<|endoftext|>"])
    assert end_tokens(path, []) == (ids["<|im_end|>"],)
