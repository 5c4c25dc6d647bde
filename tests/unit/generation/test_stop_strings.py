"""Stop strings at every border that tokens and batches can have: where the text is cut depends on neither."""

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

from bento_trtllm.generation.output import OutputProcessor
from bento_trtllm.generation.source import TokenBatch
from tests.support.scripted_source import ByteTokenizer

CASES = [
    # text, stop strings, what is shown
    ("one two three", ("two",), "one "),
    ("one two three", ("three", "two"), "one "),
    ("aaab", ("aab",), "a"),
    ("ababac", ("abac",), "ab"),
    ("abcabd", ("abd",), "abc"),
    ("x\n\nUser:", ("\n\nUser:", "\n\n"), "x"),
    ("ab", ("a",), ""),
    ("ab", ("b",), "a"),
    ("été à", ("é à",), "ét"),
    ("a🦙b", ("🦙",), "a"),
    ("stop", ("stopping",), "stop"),
    ("nothing", ("xyz",), "nothing"),
    ("abcd", ("bcd", "abc"), ""),
    ("abcde", ("cd", "bcde"), "ab"),
]


def splits(text: bytes) -> Iterator[list[bytes]]:
    """All ways to cut a text into up to four tokens, and into single bytes."""
    for cuts in range(4):
        for borders in combinations(range(1, len(text)), cuts):
            ends = (0, *borders, len(text))
            yield [text[a:b] for a, b in pairwise(ends)]
    yield [bytes([byte]) for byte in text]


def answer(tokenizer: ByteTokenizer, tokens: list[bytes], stop: tuple[str, ...], batch: int) -> tuple[str, int, str]:
    """The text that is shown, how many tokens count, and why it is over."""
    output = OutputProcessor(tokenizer, end_ids=frozenset(), max_tokens=len(tokens), stop=stop)
    ids = [tokenizer.token(token) for token in tokens]
    shown = ""
    for start in range(0, len(ids), batch):
        delta = output.feed(TokenBatch(ids[start : start + batch]))
        shown += delta.text if delta else ""
        if output.done:
            break
    else:
        output.over()
    delta = output.flush()
    return shown + (delta.text if delta else ""), output.generated, output.reason


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize(("text", "stop", "shown"), CASES)
def test_at_every_border(text: str, stop: tuple[str, ...], shown: str, batch: int) -> None:
    tokenizer = ByteTokenizer()
    stopped = shown != text
    for tokens in splits(text.encode()):
        found, generated, reason = answer(tokenizer, tokens, stop, batch)
        assert (found, reason) == (shown, "stop" if stopped else "length"), tokens
        if stopped:
            # The tokens up to the one that completes a stop string, and none of those that came with it.
            whole = b"".join(tokens[:generated]).decode(errors="ignore")
            before = b"".join(tokens[: generated - 1]).decode(errors="ignore")
            assert any(one in whole for one in stop) and not any(one in before for one in stop), tokens
        else:
            assert generated == len(tokens)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("st", ["", "", "st"]),
        ("sto", ["", "", "", "sto"]),
        ("sx", ["", "sx", ""]),
        ("stst", ["", "", "st", "", "st"]),
        ("ass", ["a", "", "s", "s"]),
    ],
)
def test_only_what_may_begin_a_stop_string_is_held_back(text: str, shown: list[str]) -> None:
    """By one token at a time, with what comes at the end as the last."""
    output = OutputProcessor(ByteTokenizer(), end_ids=frozenset(), max_tokens=99, stop=("stop",))
    found = []
    for byte in text.encode():
        delta = output.feed(TokenBatch([byte]))
        found.append(delta.text if delta else "")
    output.over()
    delta = output.flush()
    assert [*found, delta.text if delta else ""] == shown


def test_text_held_back_at_a_character_that_is_not_whole_is_still_looked_through() -> None:
    output = OutputProcessor(ByteTokenizer(), end_ids=frozenset(), max_tokens=99, stop=("\ufffd",))
    delta = output.feed(TokenBatch(list(b"a\xf0\x9f")))
    assert delta and delta.text == "a"
    assert output.flush() is None
    assert output.reason == "stop"
