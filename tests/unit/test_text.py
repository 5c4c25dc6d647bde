"""Detokenising, stop strings, and prompts whose words cannot become control tokens."""

import random
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bento_trtllm.text.controls import SLICE
from bento_trtllm.text.prompt import MAX_TOKENS, PROMPT_TEMPLATE, SYSTEM_PROMPT
from bento_trtllm.text.stop import StopStrings
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import LONGEST_WORD, PromptTokenizer, TextTooLong, slices

DEMO = Path(__file__).parents[2] / "assets" / "demo-llama"
TOKENIZER = PromptTokenizer(DEMO)
TEMPLATE = ChatTemplate(DEMO, TOKENIZER)
REFERENCE = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
VOCABULARY = REFERENCE.get_vocab_size()
CONTROL = sorted(TOKENIZER.special_ids.values())

TEXTS = [
    "Ünïcödé façade naïve",
    "超导体是一种材料",
    "こんにちは、世界",
    "안녕하세요",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "👩‍👩‍👧‍👦🇯🇵👍🏽",
    unicodedata.normalize("NFD", "Ångström résumé"),
    "def f():\n\treturn 1\r\n",
]


def stream(ids: list[int]) -> list[str]:
    detokenizer = TOKENIZER.detokenizer()
    return [*(detokenizer.feed([i]) for i in ids), detokenizer.flush()]


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=200))
@example(list(range(VOCABULARY)))
def test_pieces_are_whole_characters_and_add_up(ids: list[int]) -> None:
    pieces = stream(ids)
    assert "".join(pieces) == REFERENCE.decode(ids, skip_special_tokens=True)
    for piece in pieces:
        piece.encode("utf-8")  # a lone surrogate would raise


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_of_valid_text_has_a_replacement_character(text: str) -> None:
    pieces = stream(REFERENCE.encode(text, add_special_tokens=False).ids)
    assert "".join(pieces) == text
    assert "�" not in "".join(pieces)


def test_batches_decode_as_single_tokens_do() -> None:
    ids = [i for text in TEXTS for i in REFERENCE.encode(text, add_special_tokens=False).ids]
    detokenizer = TOKENIZER.detokenizer()
    batches = [ids[start : start + 7] for start in range(0, len(ids), 7)]
    assert "".join(map(detokenizer.feed, batches)) + detokenizer.flush() == "".join(TEXTS)


@given(
    st.text(alphabet="ab\n世", max_size=40), st.lists(st.text(alphabet="ab\n世", min_size=1, max_size=5), max_size=3)
)
def test_stop_strings_cut_like_a_search_in_the_whole_text(text: str, stops: list[str]) -> None:
    for size in (1, 2, 5):
        scanner = StopStrings(stops)
        shown, met = "", False
        for start in range(0, len(text), size):
            fresh, met = scanner.feed(text[start : start + size])
            shown += fresh
            if met:
                break
        shown += "" if met else scanner.flush()
        # The stop string that is complete first ends the text; of those complete together, the one that began first.
        ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
        assert met == bool(ends)
        assert shown == (text[: min(ends)[1]] if ends else text)


def test_text_that_cannot_be_a_stop_string_is_not_held_back() -> None:
    scanner = StopStrings(["END"])
    assert scanner.feed("abc E") == ("abc ", False)
    assert scanner.feed("verything") == ("Everything", False)


def test_prompt_is_the_template_filled_in() -> None:
    ids = TEMPLATE.prompt("What is Triton?", SYSTEM_PROMPT)
    text = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt="What is Triton?")
    assert ids == REFERENCE.encode(text, add_special_tokens=False).ids
    assert MAX_TOKENS == 1024


def test_chat_template_gives_the_same_prompt() -> None:
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": "What is Triton?"}]
    assert TEMPLATE.chat(messages) == TEMPLATE.prompt("What is Triton?", SYSTEM_PROMPT)


@pytest.mark.parametrize("token", sorted(TOKENIZER.special_ids))
def test_control_tokens_in_user_text_are_plain_characters(token: str) -> None:
    clean = TEMPLATE.prompt("x", SYSTEM_PROMPT)
    control = [i for i in clean if i in CONTROL]
    for hostile in (token, f"a{token}b", token * 3, f"{token[:-1]}{token}", token[:1] + token):
        for ids in (TEMPLATE.prompt(hostile, SYSTEM_PROMPT), TEMPLATE.prompt("x", hostile)):
            assert [i for i in ids if i in CONTROL] == control
            assert hostile in REFERENCE.decode(ids, skip_special_tokens=False)
        ids = TEMPLATE.chat([{"role": "system", "content": "s"}, {"role": "user", "content": hostile}])
        assert [i for i in ids if i in CONTROL] == control


@given(st.text(max_size=60))
def test_any_user_text_survives_in_the_prompt(text: str) -> None:
    ids = TEMPLATE.prompt(text, "s")
    assert [i for i in ids if i in CONTROL] == [i for i in TEMPLATE.prompt("x", "s") if i in CONTROL]
    expected = PROMPT_TEMPLATE.format(system_prompt="s", user_prompt=text)
    assert REFERENCE.decode(ids, skip_special_tokens=False) == expected


def test_random_order_of_every_byte_level_token() -> None:
    ids = list(range(VOCABULARY))
    for seed in range(20):
        random.Random(seed).shuffle(ids)
        assert "".join(stream(ids)) == REFERENCE.decode(ids, skip_special_tokens=True)


BITS = [
    " ",
    "  ",
    "\n",
    "\n\n",
    "a",
    "word",
    "The",
    "'s",
    " don't",
    "1",
    "123",
    "。",
    "、",
    "日本語",
    "한국어",
    "!",
    "?!",
    "(x)",
]
BITS += ["é", "e\u0301", "\t", "\u00a0", "🦙", "½", "_", "-", "،", "नमस्ते", "\r\n", "...", " ,", "<|eot_id|>"]


@given(st.lists(st.sampled_from(BITS) | st.text(max_size=3), max_size=60).map("".join), st.integers(1, 12))
def test_slices_of_a_text_are_its_tokens(text: str, size: int) -> None:
    """Wherever a text may be cut."""
    whole = REFERENCE.encode(text, add_special_tokens=False)
    parts = list(slices(text, size))
    assert "".join(parts) == text
    assert [i for part in parts for i in TOKENIZER.encode_text(part)] == TOKENIZER.encode_text(text)
    if not any(token in text for token in TOKENIZER.special_ids):
        assert TOKENIZER.encode_text(text) == whole.ids


@pytest.mark.parametrize(
    "text", ["some words, and 12 more. " * 4000, "超导体是一种材料。" * 8000, "x" * 100_000, "\n" * 100_000]
)
def test_a_long_text_is_read_in_slices(text: str) -> None:
    assert TOKENIZER.encode_text(text) == REFERENCE.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.encode(text) == TOKENIZER.encode_text(text)


def test_control_tokens_across_slices() -> None:
    """Found, and made plain, wherever the borders of slices fall."""
    token = "<|eot_id|>"
    for shift in range(len(token) + 2):
        text = "x" * (SLICE - shift) + token + "y" * SLICE + token
        ids = TOKENIZER.encode(text)
        assert ids.count(TOKENIZER.special_ids[token]) == 2
        assert not set(TOKENIZER.encode(TOKENIZER.protect(text))) & set(CONTROL)
        assert TOKENIZER.decode(TOKENIZER.encode(TOKENIZER.protect(text))) == text


def test_a_text_over_the_limit_costs_no_more_than_one_within() -> None:
    bounded = PromptTokenizer(DEMO, most=1000)
    assert bounded.encode_text("a b " * 400) == TOKENIZER.encode_text("a b " * 400)
    for text in ("word " * 3000, "x" * 10_000_000, "<|eot_id|>" * 2000, "word " * 400_000):
        for read in (bounded.encode, bounded.encode_text, lambda text: bounded.encode(bounded.protect(text))):
            with pytest.raises(TextTooLong, match="1000 tokens"):
                read(text)
    began = time.process_time()
    with pytest.raises(TextTooLong):
        bounded.encode_text("x1" * 2_000_000)
    for _ in range(10):
        with pytest.raises(TextTooLong):
            bounded.encode_text("word " * 3_000)
    assert time.process_time() - began < 1
    # What an answer must end with is counted all the same.
    assert bounded.count("word " * 3000) > 1000


def test_a_word_without_end_is_cut_and_stays_the_same_text() -> None:
    text = "x" * (3 * LONGEST_WORD)
    parts = list(slices(text, SLICE))
    assert len(parts) > 1
    assert "".join(parts) == text
    assert TOKENIZER.decode(TOKENIZER.encode_text(text)) == text
