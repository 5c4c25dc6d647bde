"""Bodies that would hold a worker while they are parsed are refused by what they hold, and no others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_trtllm.api import census, json_body
from bento_trtllm.api.errors import APIError


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


REFUSED = {
    "lists": (dump([[]] * 20_000), "objects and arrays"),
    "objects": (dump([{}] * 20_000), "objects and arrays"),
    "strings": (dump([""] * 50_000), "strings"),
    "names": (dump({str(i): 0 for i in range(50_000)}), "strings"),
    "numbers": (dump([1] * 200_000), "values"),
    "behind text": (dump(['\\"[' * 9_000, *[[]] * 20_000]), "objects and arrays"),
    "behind a broken string": (b'["\\\\", ' + b"[]," * 20_000, "objects and arrays"),
}


@pytest.mark.parametrize(("body", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_too_many_values_are_refused(body: bytes, named: str) -> None:
    with pytest.raises(APIError, match=named) as error:
        census.check(body)
    assert error.value.status == 413


TAKEN = {
    "a long text": "word, [and] {more} " * 100_000,
    "text in quotes": '"\\"\\[{,' * 300_000,
    "the ids of a long context": [100_000] * 131_072,
    "a long conversation": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}] * 2_000,
    "the tools of an agent": [{"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(20)}}] * 128,
}


@pytest.mark.parametrize("value", TAKEN.values(), ids=TAKEN.keys())
def test_what_people_send_is_taken(value: Any) -> None:
    census.check(dump(value))


@pytest.mark.slow
@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_stands_outside_strings(value: Any) -> None:
    """As a walk counts it."""
    counts = {"containers": 0, "commas": 0}

    def walk(part: Any) -> None:
        if isinstance(part, list | dict):
            counts["containers"] += 1
            counts["commas"] += max(len(part) - 1, 0)
            for item in part.values() if isinstance(part, dict) else part:
                walk(item)

    walk(value)
    for ensure_ascii in (True, False):
        bare = json_body.outside(json.dumps(value, ensure_ascii=ensure_ascii).encode())
        assert bare.count(b"[") + bare.count(b"{") == counts["containers"]
        assert bare.count(b",") == counts["commas"]
