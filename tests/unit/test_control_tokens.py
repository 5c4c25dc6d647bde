"""Control tokens are where templates and tokenizers put them, and nowhere else."""

import json
import runpy
import secrets
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from bento_trtllm.text.controls import DIGITS, SLICE, Controls
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.chat_templates import (
    ASKED,
    SAY,
    TALK,
    TEMPLATES,
    TOOL,
    ours,
    theirs,
    transformers_tokenizer,
    write,
)

PREPROCESSING = Path(__file__).parents[2] / "bento_trtllm/triton_models/preprocessing/model.py"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("templates")
    return {name: write(folder / name, template) for name, template in TEMPLATES.items()}


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
    assert [*tokenizer.prefix, *tokenizer.encode_text("some words")] == transformers_tokenizer(path)(
        "some words"
    ).input_ids
    assert tokenizer.prefix == ((0,) if bos in ("tokenizer", "both") else ())


def fit_for_training(path: Path) -> None:
    """Give a tokenizer the truncation and padding that training left in some."""
    file = path / "tokenizer.json"
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 16}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0}
    padding |= {"pad_type_id": 0, "pad_token": "<|endoftext|>"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": truncation, "padding": padding}))


@pytest.mark.parametrize("words", [3, 50])
def test_truncation_and_padding_of_a_tokenizer_are_not_for_prompts(words: int, tmp_path: Path) -> None:
    path = write(tmp_path, SAY)
    whole = PromptTokenizer(path).encode_text("word " * words)
    fit_for_training(path)
    tokenizer = PromptTokenizer(path)
    assert (
        ours(path).chat([{"role": "user", "content": "word " * words}])
        == whole
        == tokenizer.encode_text("word " * words)
    )
    assert tokenizer.decode(whole) == "word " * words


@pytest.mark.parametrize("words", [3, 50])
def test_nor_for_the_ensembles(words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, SAY)
    whole = PromptTokenizer(path).encode_text("word " * words)
    fit_for_training(path)
    inputs = {"QUERY": np.array([[("word " * words).encode()]], np.object_), "REQUEST_OUTPUT_LEN": np.array([[1]])}

    def tensor(name: str, values: Any) -> Any:
        return SimpleNamespace(name=name, as_numpy=lambda: values)

    backend = SimpleNamespace(
        Tensor=tensor,
        InferenceResponse=lambda output_tensors: {output.name: output.as_numpy() for output in output_tensors},
        get_input_tensor_by_name=lambda request, name: tensor(name, request[name]) if name in request else None,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.syspath_prepend(PREPROCESSING.parents[1] / "shared")  # what is packed beside it
    model = runpy.run_path(str(PREPROCESSING))["TritonPythonModel"]()
    values = {"tokenizer_dir": str(path), "add_special_tokens": "false", "end_id": "0", "stop_ids": ""}
    parameters = {name: {"string_value": value} for name, value in values.items()}
    model.initialize({"model_config": json.dumps({"parameters": parameters})})
    (response,) = model.execute([inputs])
    assert response["INPUT_ID"].tolist() == [whole]


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


def test_a_word_that_templates_write_stands_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "ish fish ish-ish ishes {{ messages[0].content }}")
    assert "ish" in PromptTokenizer(path).special_ids
    assert ours(path).chat(ASKED) == theirs(path, ASKED)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_token_with_a_name_is_a_control_token(place: str, tmp_path: Path) -> None:
    """Also where tokenizer.json has it as a word of the vocabulary."""
    path = write(tmp_path, "{{ sep_token }}{{ messages[0].content }}<jupyter_code>")
    file = path / "tokenizer.json"
    data = json.loads(file.read_text())
    names = ("<gh_stars>", "<jupyter_code>")
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in names]
    file.write_text(json.dumps(data))
    given = json.loads((path / place).read_text()) if (path / place).exists() else {}
    (path / place).write_text(json.dumps(given | {"sep_token": "<gh_stars>"}))
    assert ours(path).chat(ASKED) == theirs(path, ASKED)
    stars = data["model"]["vocab"]["<gh_stars>"]
    assert ours(path).chat([{"role": "user", "content": "<gh_stars>"}]).count(stars) == 1
    assert PromptTokenizer(path).decode([stars]) == ""


# Tokens that begin alike, and touch marks.
NESTED = ["<|7|>", "<|7|>8", "<|", "1<|7|>2", "é"]
CONTROLS = Controls({i: AddedToken(name, special=True) for i, name in enumerate(NESTED)})
PIECES = st.sampled_from([*NESTED, "<", "|", "7", ">", "8", "1", "2", " ", "\n", "x" * SLICE, "\ue000"])
GAPS = st.sampled_from(["", " ", "0", "x" * (SLICE - 9)])


def test_marks_are_taken_out_wherever_a_slice_ends() -> None:
    for before in range(SLICE - 2 * DIGITS - len(NESTED[0]), SLICE + 1):
        text = "x" * before + NESTED[0] * 2 + "y" * SLICE + NESTED[0]
        assert CONTROLS.bare(CONTROLS.protect(text)) == text


@pytest.mark.parametrize("opening", range(10))
@pytest.mark.parametrize("closing", range(10))
def test_no_token_is_found_that_a_digit_of_a_mark_completes(
    opening: int, closing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks are random: one may end, or begin, with a digit that makes another token of the one that it marks."""
    digits = iter([int("3" * (DIGITS - 1) + str(opening)), int(str(closing) + "5" * (DIGITS - 1))])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(digits))
    controls = Controls({i: AddedToken(name, special=True) for i, name in enumerate(NESTED)})
    for name in NESTED:
        assert [*controls.find(controls.protect(name))] == []
        assert [i for *_, i in controls.find(f"é{controls.protect(name)}é")] == [controls.ids["é"]] * 2


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join), GAPS)
@settings(deadline=None)
def test_only_what_stands_around_a_text_is_found(text: str, gap: str) -> None:
    """Whatever the text, and wherever one search ends and the next begins."""
    protected = CONTROLS.protect(text)
    assert CONTROLS.bare(protected) == text
    assert len(protected) - CONTROLS.marks(protected) == len(text)
    for body in (protected, protected.upper(), json.dumps(protected, ensure_ascii=False)):
        prompt = f"é{gap}{body}{gap}é"
        found = list(CONTROLS.find(prompt))
        assert [token for *_, token in found] == [CONTROLS.ids["é"]] * 2
        assert (found[0][0], found[-1][1]) == (0, len(prompt))
