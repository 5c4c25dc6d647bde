"""Rules of the stand-in for NVIDIA's backend that need no Triton, and that each rule has its test."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.standin.rules import RULES

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "support/standin/backend"))

from checks import Limits, check_fetched  # noqa: E402  as Triton finds them
from tensors import Request  # noqa: E402


def limits(tmp_path: Path, **parameters: str) -> Limits:
    build = {"max_seq_len": 100, "max_num_tokens": 40, "max_batch_size": 8, "max_input_len": 90}
    config = {"pretrained_config": {"vocab_size": 50}, "build_config": build}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Limits.read(tmp_path, parameters)


def stream(prompt: int, max_tokens: int) -> Request:
    flags: Any = dict.fromkeys(("return_context_logits", "return_generation_logits"), False)
    return Request((1,) * prompt, max_tokens, streaming=True, exclude_input=True, flags=flags)


def test_longest_prompt(tmp_path: Path) -> None:
    chunked, whole = limits(tmp_path, enable_chunked_context="true"), limits(tmp_path)
    assert (chunked.max_input_len, whole.max_input_len) == (99, 40)
    assert check_fetched(stream(99, 50), chunked) == 1 and check_fetched(stream(40, 50), whole) == 50
    for prompt, limit in ((100, chunked), (41, whole)):
        with pytest.raises(RuntimeError, match=f"Prompt length .{prompt}. exceeds maximum input length"):
            check_fetched(stream(prompt, 1), limit)


def test_no_restart(tmp_path: Path) -> None:
    policy = {"batch_scheduler_policy": "max_utilization"}
    with pytest.raises(RuntimeError, match="potentially greater than max input length"):
        check_fetched(stream(30, 12), limits(tmp_path, **policy))
    assert check_fetched(stream(30, 11), limits(tmp_path, **policy)) == 11
    assert check_fetched(stream(30, 12), limits(tmp_path, enable_chunked_context="true", **policy)) == 12
    assert check_fetched(stream(30, 12), limits(tmp_path)) == 12


def test_each_rule_has_a_test() -> None:
    """By its name, so that a rule cannot be told without being shown."""
    files = TESTS / "triton/test_standin.py", TESTS / "unit/test_standin.py"
    text = "".join(file.read_text() for file in files)
    assert [name for name in RULES if f"def test_{name}(" not in text] == []
    assert all(rule.new and rule.old for rule in RULES.values())
