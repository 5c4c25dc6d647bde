"""The JSON of clients: what is taken, what is refused, and which field is named."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.api.errors import APIError
from bento_trtllm.api.json_body import MAX_DEPTH, InvalidJSON, decode, read

REFUSED: dict[str, tuple[bytes, str | None, str]] = {
    "half a pair": (b'{"messages": [{"content": "a"}, {"content": "hi \\ud83d"}]}', "messages[1].content", "surrogate"),
    "half a pair, the second": (b'{"a": {"b": ["x", "\\udc00"]}}', "a.b[1]", "surrogate"),
    "half a pair in a key": (b'{"tools": [{"\\ud83d": 1}]}', "tools[0]", "surrogate"),
    "half a pair in bytes": (b'{"prompt": "\xed\xa0\x80"}', "prompt", "UTF-8"),
    "Latin-1": (b'{"prompt": "caf\xe9"}', "prompt", "UTF-8"),
    "NaN": (b'{"a": [1, NaN]}', "a[1]", "NaN"),
    "Infinity": (b'{"top_p": Infinity}', "top_p", "Infinity"),
    "minus Infinity": (b'{"top_p": -Infinity}', "top_p", "Infinity"),
    "1e400": (b'{"schema": {"maximum": 1e400}}', "schema.maximum", "too large"),
    "-1e400": (b'{"schema": {"minimum": -1E+400}}', "schema.minimum", "too large"),
    "1e310 written otherwise": (b'{"a": ' + b"1" * 300 + b"e10}", "a", "too large"),
    "400 digits": (b'{"a": ' + b"9" * 400 + b"}", "a", "too large"),
    "400 digits and a point": (b'{"a": ' + b"9" * 400 + b".5}", "a", "too large"),
    "5,000 digits": (b'{"seed": ' + b"9" * 5000 + b"}", "seed", "digits"),
    "deep": (b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "a" + "[0]" * 7, "nested over 200"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, ".".join("a" * 8), "nested over 200"),
    "UTF-16": (json.dumps({"a": 1}).encode("utf-16"), None, "UTF-8"),
    "UTF-16 without a mark": (json.dumps({"a": 1}).encode("utf-16-le"), None, "UTF-8"),
    "UTF-32": (json.dumps({"a": 1}).encode("utf-32-be"), None, "UTF-8"),
    "nothing": (b"", None, "empty"),
    "spaces": (b" \n", None, "empty"),
    "gzip": (b"\x1f\x8b\x08\x00", None, "not JSON"),
    "more after it": (b"{} x", None, "trailing"),
    "half of it": (b'{"a": {"b": [1, ', "a.b[1]", "not JSON"),
    "a raw line end": (b'{"a": "x\ny"}', "a", "control character"),
    "on another line": (b'{\n"a": 1,\n"b": bad}', "b", "not JSON"),
    "single quotes": (b"{'a': 1}", None, "not JSON"),
}


@pytest.mark.parametrize(("body", "field", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_the_fields_name(body: bytes, field: str | None, reason: str) -> None:
    with pytest.raises(APIError) as error:
        read(body)
    assert error.value.status == 400
    assert error.value.param == field
    assert reason in error.value.message
    assert field is None or field in error.value.message
    assert "\n" not in error.value.message and len(error.value.message) < 200


def test_what_is_well_stays() -> None:
    assert decode(b"\xef\xbb\xbf" + b'{"a": "\\ud83d\\ude00", "b": [1.5, -0.0, 1e308, 1e-400]}') == {
        "a": "😀",
        "b": [1.5, -0.0, 1e308, 0.0],
    }
    assert decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert decode(b'{"a": "1e400 NaN ' + b"9" * 5000 + b'"}')["a"].startswith("1e400 NaN 9")
    assert decode(b"9" * 300) == int("9" * 300)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner))


def broken_at(body: bytes) -> int | str:
    """The first step to where it breaks off."""
    with pytest.raises(InvalidJSON) as error:
        decode(body)
    return error.value.path[0]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (lambda body: decode(body)[0], b'["a prompt nobody sent"]'),
        (lambda body: next(iter(decode(body))), b'{"a field nobody sent": 1}'),
        (broken_at, b'{"a field nobody ended": [bad'),
    ],
    ids=["a value", "a key", "a key before an error"],
)
def test_no_text_of_a_body_is_kept(text: Callable[[bytes], object], body: bytes) -> None:
    """Or the parser would give the same object again for the same text, which it has as long as the worker lives."""
    first, second = text(body), text(body)
    assert first == second and first is not second


def encodes(value: Any) -> bool:
    """Whether its text is whole: half of a surrogate pair has no UTF-8."""
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


@pytest.mark.slow
@given(VALUES)
def test_agrees_with_pythons_own_parser(value: Any) -> None:
    """Or refuses; what it takes can be written as strict JSON in UTF-8 again."""
    body = json.dumps(value).encode()
    try:
        decoded = read(body)
    except APIError as error:
        assert error.status == 400
        assert "NaN" in body.decode() or "Infinity" in body.decode() or not encodes(value)
        return
    assert decoded == json.loads(body)
    json.dumps(decoded, ensure_ascii=False, allow_nan=False).encode()


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: json.dumps({"a": [text]})[:-1].encode()))
def test_any_bytes_are_a_value_or_a_sentence(body: bytes) -> None:
    try:
        json.dumps(read(body), ensure_ascii=False, allow_nan=False).encode()
    except APIError as error:
        json.dumps(error.body(), ensure_ascii=False).encode()
