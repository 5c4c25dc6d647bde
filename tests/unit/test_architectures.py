"""Every architecture by the numpy reference, which test_ir.py holds the engine against, as transformers computes it."""

import json
from pathlib import Path

import numpy as np
import pytest

from bento_trtllm.checkpoint.architectures import ARCHITECTURES
from bento_trtllm.engines.openvino.reference import Reference
from tests.support.oracle import CASES, DATA, TOKENS, made, prompt

FOUND = json.loads(DATA.read_text())["log_probs"]


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    ids = prompt(case)
    found = Reference.load(made(case, tmp_path)).log_probs(ids)[np.arange(TOKENS - 1), ids[1:]]
    assert len(FOUND[case]) == TOKENS - 1
    np.testing.assert_allclose(found, FOUND[case], atol=1e-4)


def test_every_architecture_is_among_them() -> None:
    assert {name for case in CASES.values() for name in case["config"]["architectures"]} == ARCHITECTURES.keys()
