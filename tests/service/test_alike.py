"""64 clients at once, prompts that share their beginnings: each answer is the one that its question gets alone."""

from pathlib import Path

import numpy as np
import pytest

from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.text.tokenizer import PromptTokenizer
from soak.alike import CUTS, ERRORS, ROUNDED, WRONG
from soak.main import compare
from soak.margin import Margin
from soak.questions import ROUTES
from tests.support.serving import DEMO, serve

ANSWERS, STREAMS, RESTARTS = 240, 64, 2


@pytest.mark.engines("openvino", "tensorrt-1.x")  # 0.10.0 has no guided decoding
async def test_answers_among_others_are_those_given_alone(home: Path, tmp_path: Path) -> None:
    """A short run of `scripts/soak --answers`, with a third of its questions: in f32 no byte of an answer differs."""
    with serve(home, tmp_path / "log.txt") as service:
        service.wait_ready()
        alike = compare(service, every=3)
        kinds = [f"of them {route}, {how}" for route in ROUTES for how in ("streamed", "whole")]
        kinds += ["of them guided", "of them beside others in one request"]
        kinds += ["beginnings compared, of clients that left", "clients that left before an answer"]
        await alike.ask_alone()
        await alike.ask_among(ANSWERS, STREAMS, RESTARTS, kinds)
        counts = alike.counts
        assert {name: counts[name] for name in (WRONG, CUTS, ERRORS, ROUNDED)} == dict.fromkeys(
            (WRONG, CUTS, ERRORS, ROUNDED), 0
        )
        assert min(counts[kind] for kind in [*kinds, "tritonserver killed", "engine killed"]) > 0, counts
        assert counts["answers compared"] >= ANSWERS

        # Another answer is noticed.
        alike.alone = {question: ("Not this",) * len(texts) for question, texts in alike.alone.items()}
        before = counts["answers compared"]
        await alike.ask_among(20, 4, 0)
        assert counts[WRONG] >= counts["answers compared"] - before >= 20


def test_margin_is_that_of_the_tokens_at_which_answers_part() -> None:
    llama, tokenizer = Reference.load(DEMO), PromptTokenizer(DEMO)
    margin = Margin(llama, tokenizer, list(llama.checkpoint.eos_ids))
    prompt = tokenizer.encode_text("The engine is")
    shared: list[int] = []
    for _ in range(4):
        scores = llama.logits([*prompt, *shared])[-1]
        shared.append(int(scores.argmax()))
    scores = llama.logits([*prompt, *shared])[-1]
    one, other = (int(token) for token in np.argsort(scores)[::-1][:2])
    texts = [tokenizer.decode([*shared, token]) for token in (one, other)]
    assert margin.between(tuple(prompt), *texts) == pytest.approx(scores[one] - scores[other], abs=1e-4)
    assert margin.between(tuple(prompt), texts[0], texts[0]) == float("inf")
