"""One name, one thing: no two public classes of the package have the same name."""

import ast
from collections import Counter

from tests.support.launcher import ROOT

EVERY_MODELS = {"TritonPythonModel"}
"""Triton's Python backend asks each of its models for a class of this name."""


def test_no_name_stands_for_two_classes() -> None:
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "bento_trtllm").rglob("*.py"))]
    names = Counter(
        node.name
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(names) > 300
    assert {name for name, count in names.items() if count > 1} == EVERY_MODELS
