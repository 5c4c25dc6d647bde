"""The table of tensors, row by row, against the configurations that NVIDIA's backend had at each release."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton_models.shared.parameters import API_FIELDS, OUTPUTS, PARAMETERS, Output, Parameter

HERE = Path(__file__).parent
PREFIX = "inflight_batcher_llm-"
RELEASES = {
    file.stem.removeprefix(PREFIX): json.loads(file.read_text("utf-8"))["models"]["tensorrt_llm"]
    for file in sorted(HERE.glob(f"{PREFIX}*.json"))
}
SIDES = {Parameter: "input", Output: "output"}
LATER_SHAPES = {"request_output_len", "stop", "streaming"}
"""Scalars that keep their dimension in 0.10.0 and 0.11.0."""


def number(release: str) -> tuple[int, ...]:
    """0.20.0.dev and 1.3.0rc3 are of 0.20.0 and 1.3.0."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", release)
    assert found
    return tuple(map(int, found.groups()))


def test_all_releases_are_there() -> None:
    assert {"0.10.0", "0.17.0", "1.3.0rc3"} <= RELEASES.keys() and len(RELEASES) == 10


@pytest.mark.parametrize("release", RELEASES)
def test_the_rows_are_upstreams(release: str) -> None:
    rows: tuple[Parameter | Output, ...] = (*PARAMETERS, *OUTPUTS)
    for row in rows:
        upstream = {tensor["name"]: tensor for tensor in RELEASES[release][SIDES[type(row)]]}
        name = (getattr(row, "before_1", "") if number(release) < (0, 20) else "") or row.tensor
        if number(row.since) > number(release):
            assert name not in upstream
            continue
        their = upstream[name]
        assert their["data_type"] == f"TYPE_{row.dtype}".replace("BYTES", "STRING"), name
        assert their["dims"] == list(row.dims or (1,)), name
        if isinstance(row, Parameter):
            # Up to 0.14.0 input_ids is not optional: dialects.py.
            optional = their.get("optional", False)
            assert row.required == (not optional) or (row.tensor == "input_ids" and number(release) < (0, 15)), name
            shaped = "reshape" in their
            assert row.scalar == shaped or (row.tensor in LATER_SHAPES and number(release) < (0, 12)), name
            assert their.get("allow_ragged_batch", False) == (not row.scalar), name


def test_names_are_given_once() -> None:
    for rows in (PARAMETERS, OUTPUTS):
        names = [row.tensor for row in rows]
        assert len(set(names)) == len(names)
    sent = [row.field for row in PARAMETERS if row.field]
    assert len(set(sent)) == len(sent)


def test_every_field_of_a_request_is_sent() -> None:
    """And no row names a field that is not there, but for those that follow from the others."""
    derived = {"input_length", "streaming", "guide_kind", "guide_text"}
    assert {row.field for row in PARAMETERS if row.field} - derived == {f.name for f in fields(TokenRequest)} - {
        "guide",
        "trace",  # goes with a request's headers
    }


def test_a_default_lies_within_its_bounds() -> None:
    for row in PARAMETERS:
        if row.default is not None and row.low is not None and row.high is not None:
            assert row.low <= row.default <= row.high, row.tensor


def test_what_an_engine_refuses_has_its_field() -> None:
    assert API_FIELDS["guided_decoding_guide"] == API_FIELDS["guided_decoding_guide_type"] == "response_format"
    assert API_FIELDS["bad_words_list"] == API_FIELDS["embedding_bias"] == "logit_bias"
    assert API_FIELDS["input_ids"] == "prompt" and API_FIELDS["request_output_len"] == "max_tokens"
    assert "beam_width" not in API_FIELDS
