"""One name, one thing: no two public classes of the package have the same name."""

import re
from collections import Counter

from tests.support.launcher import ROOT

EVERY_MODELS = {"TritonPythonModel"}
"""Triton's Python backend asks each of its models for a class of this name."""


def test_no_name_stands_for_two_classes() -> None:
    texts = (path.read_text("utf-8") for path in (ROOT / "bento_trtllm").rglob("*.py"))
    names = Counter(name for text in texts for name in re.findall(r"^class ([^\W_]\w*)", text, re.MULTILINE))
    assert len(names) > 300
    assert {name for name, count in names.items() if count > 1} == EVERY_MODELS
