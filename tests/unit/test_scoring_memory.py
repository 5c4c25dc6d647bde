"""What the scoring model keeps of texts of ever other lengths, each of which has shapes of its own to OpenVINO."""

import sys
from pathlib import Path

import psutil
import pytest

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from tests.support.checkpoints import write_checkpoint

MODELS = Path(__file__).parents[2] / "bento_trtllm/triton_models"
sys.path += [str(MODELS / "shared"), str(MODELS / "openvino")]

import scoring  # noqa: E402  as Triton finds it

pytestmark = pytest.mark.slow

KEPT = 16
FULL, MORE = 300, 60
"""Tokens after which memory is as it stays, and more of them, of which each takes 1.4 MB where all is kept."""


def feed(text: scoring.ScoredText, tokens: int) -> int:
    """One after another; what the process has then, in bytes."""
    for _ in range(tokens):
        text.feed([1], [2], 3, scored=True)
    return int(psutil.Process().memory_info().rss)


def test_it_forgets_the_shapes_of_former_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scoring.KEPT_KERNELS < 1000
    monkeypatch.setattr(scoring, "KEPT_KERNELS", KEPT)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    make_engine("openvino", precision="f32").prepare(find_checkpoint(str(checkpoint))).write(tmp_path, tmp_path)
    text = scoring.ScoringModel(tmp_path, {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}).text()
    full = feed(text, FULL)
    assert feed(text, MORE) - full < MORE * 0.7 * 2**20
