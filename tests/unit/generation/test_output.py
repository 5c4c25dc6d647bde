"""Tokens of a real vocabulary to text: scores beside their text, and answers that are ended before they are cut."""

import json
from pathlib import Path

import pytest

from bento_trtllm.generation.output import OutputProcessor
from bento_trtllm.generation.results import TextDelta
from bento_trtllm.generation.source import TokenBatch
from bento_trtllm.grammar.grammar import Grammar
from bento_trtllm.grammar.schema import compile_schema
from bento_trtllm.text.tokenizer import PromptTokenizer

TOKENIZER = PromptTokenizer(Path(__file__).parents[3] / "assets" / "demo-llama")
END = TOKENIZER.special_ids["<|eot_id|>"]


def compose(
    text: str,
    *,
    max_tokens: int = 1000,
    batch: int = 1,
    end: bool = True,
    scores: bool = False,
    stop: tuple[str, ...] = (),
    grammar: Grammar | None = None,
) -> tuple[list[TextDelta], OutputProcessor]:
    ids = [*TOKENIZER.encode_text(text), *([END] if end else [])][:max_tokens]
    ends = frozenset({END})
    output = OutputProcessor(TOKENIZER, end_ids=ends, max_tokens=max_tokens, stop=stop, grammar=grammar)
    pieces = []
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        pieces.append(output.feed(TokenBatch(part, [-float(i) for i in part] if scores else [])))
        if output.done:
            break
    else:
        output.over()
    pieces.append(output.flush())
    return [piece for piece in pieces if piece], output


def text_of(pieces: list[TextDelta]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_text_reason_and_count(batch: int) -> None:
    text = "こんにちは 🦙 world"
    pieces, output = compose(text, batch=batch)
    assert text_of(pieces) == text
    assert output.reason == "stop"
    assert output.generated == len(TOKENIZER.encode_text(text)) + 1
    pieces, output = compose(text, max_tokens=2, batch=batch)
    assert (output.reason, output.generated) == ("length", 2)


@pytest.mark.parametrize("text", ["Hello, big world", ""])
def test_an_end_token_counts_that_the_engine_keeps_to_itself(text: str) -> None:
    shown, kept = (compose(text, end=end)[1] for end in (True, False))
    assert (
        (shown.reason, shown.generated)
        == (kept.reason, kept.generated)
        == ("stop", 1 + len(TOKENIZER.encode_text(text)))
    )
    # The last token that is allowed was no end.
    _, full = compose("Hello, big world", end=False, max_tokens=3)
    assert (full.reason, full.generated) == ("length", 3)


def test_a_stop_string_counts_its_own_tokens_whatever_comes_with_them() -> None:
    text = "Hello, big world, and all that comes behind it"
    counts = {compose(text, batch=batch, stop=("world",))[1].generated for batch in (1, 2, 3, 7, 100)}
    assert counts == {len(TOKENIZER.encode_text("Hello, big world"))}


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("text", ["Hello, big world", "こんにちは 🦙 ∑ क्षि world", "Ünï"])
def test_scores_stand_with_their_text(batch: int, text: str) -> None:
    pieces, _ = compose(text, batch=batch, scores=True)
    ids = TOKENIZER.encode_text(text)
    assert [score.token for piece in pieces for score in piece.scores] == ids
    shown = b""
    for piece in pieces:
        before = len(shown)
        shown += piece.text.encode()
        for score in piece.scores:
            start = len(b"".join(TOKENIZER.token_bytes(i) for i in ids[: ids.index(score.token)]))
            assert score.log_prob == -score.token
            assert start >= before or ids.count(score.token) > 1
            assert start < len(shown)


def test_scores_after_a_stop_string_are_dropped() -> None:
    text = "one two three four"
    pieces, output = compose(text, scores=True, stop=("three",))
    assert text_of(pieces) == "one two "
    assert output.reason == "stop"
    shown = b"".join(TOKENIZER.token_bytes(s.token) for piece in pieces for s in piece.scores)
    assert shown.decode().startswith("one two ")
    assert "four" not in shown.decode()


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_a_guided_answer_is_ended_before_it_is_cut(batch: int) -> None:
    text = json.dumps({"text": "a long story " * 10, "list": [1, {"x": ["y"]}, None], "last": True})
    whole = len(TOKENIZER.encode_text(text)) + 1
    for max_tokens in range(2, whole + 3):
        pieces, output = compose(text, max_tokens=max_tokens, batch=batch, grammar=compile_schema({"type": "object"}))
        value = json.loads(text_of(pieces))
        assert output.generated <= max_tokens
        assert output.reason == ("stop" if max_tokens >= whole else "length")
        if max_tokens >= whole:
            assert value == json.loads(text)


def test_what_is_required_is_written_in_time() -> None:
    """Opening an object may cost more than is left: then it is not opened."""
    inner = {"type": "object", "properties": {f"key{i}": {"type": "integer"} for i in range(5)}}
    inner["required"] = [f"key{i}" for i in range(5)]
    grammar = compile_schema({"type": "array", "items": inner})
    text = json.dumps([{f"key{i}": i for i in range(5)}] * 3)
    counts = set()
    for max_tokens in range(2, len(TOKENIZER.encode_text(text)) + 2):
        pieces, output = compose(text, max_tokens=max_tokens, grammar=grammar)
        value = json.loads(text_of(pieces))
        assert all(len(item) == 5 for item in value)
        assert output.generated <= max_tokens
        counts.add(len(value))
    assert counts == {0, 1, 2, 3}


def test_what_the_engine_writes_over_a_long_count_is_ended() -> None:
    grammar = compile_schema({"type": "string", "maxLength": 300})
    pieces, output = compose(json.dumps("word " * 100), grammar=grammar)
    value = json.loads(text_of(pieces))
    assert 290 < len(value) <= 300
    assert output.reason == "length"
