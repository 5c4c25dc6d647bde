"""The packed model once more, to score given tokens: OpenVINO GenAI's pipeline gives only the chosen token's score.

It is the pipeline's own IR, with another end: of the places that are asked for, the score of the token that follows,
its rank, and the likeliest tokens are computed in the graph, so no logits leave it. The keys and values are the
request's state, so that a text can be fed piece by piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
from cores import groups
from kv_cache import WORKING
from memory import free_memory
from outbox import Scores
from parameters import MOST_SCORES

MODEL, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
KEPT_KERNELS = 128
"""OpenVINO keeps what it makes for each shape, of a model up to 5000; and nearly each piece of a text has shapes of its
own. The demo's took 1.5 GB after 450 texts, and 0.4 GB with this, as fast (2026.4.1)."""


def missing_memory(engine: Path) -> str | None:
    """Why a ScoringModel of an engine cannot be made now, as a sentence; None if it can."""
    needed, free = (engine / WEIGHTS).stat().st_size + WORKING, free_memory(groups("memory"))
    if needed <= free:
        return None
    return (
        f"These scores need the model a second time, {needed / 1e9:.1f} GB of memory, and this machine has "
        f"{free / 1e9:.1f} GB free: ask for scores of the answer's own tokens alone, or take a larger machine."
    )


class ScoringModel:
    """Compiled for the CPU: that takes as long, and as much memory for the weights, as the pipeline's own."""

    def __init__(self, engine: Path, properties: Mapping[str, Any]) -> None:
        core = ov.Core()
        model = _with_scores(core.read_model(str(engine / MODEL)))
        bounded = {"NUM_STREAMS": 1, "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS}
        self._compiled = core.compile_model(model, "CPU", {**properties, **bounded})

    def text(self) -> ScoredText:
        """A new text."""
        return ScoredText(self._compiled.create_infer_request())


class ScoredText:
    """One text as far as it was fed."""

    def __init__(self, request: ov.InferRequest) -> None:
        self._request = request
        self._fed = 0
        self._beam = np.zeros(1, np.int32)

    def forget(self) -> None:
        """Begin with another text."""
        self._request.reset_state()
        self._fed = 0

    def feed(self, ids: list[int], following: list[int], top: int, *, scored: bool) -> Scores:
        """Feed tokens, at least one; `following` are those behind each of them, whose scores come back, if `scored`.

        `top` is how many of the likeliest tokens come with each.
        """
        count, end = len(ids), self._fed + len(ids)
        # Without scores, one place is asked for all the same: with none, the graph would be a special case.
        rows = np.arange(count) if scored else np.zeros(1, np.int64)
        self._request.infer(
            {
                "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(self._fed, end)[np.newaxis],
                "beam_idx": self._beam,
                "places": rows,
                "following": np.array(following, np.int64)[rows][:, np.newaxis],
            }
        )
        self._fed = end
        if not scored:
            return Scores()
        values = {name: self._request.get_tensor(name).data for name in ("score", "rank", "top", "top_ids")}
        return Scores(
            values["score"][:, 0].tolist(),
            (values["rank"][:, 0] + 1).tolist(),
            values["top_ids"][:, :top].tolist(),
            values["top"][:, :top].tolist(),
        )


def _with_scores(model: ov.Model) -> ov.Model:
    """Further inputs `places` [n], of the tokens that are fed, and `following` [n, 1], the tokens behind those.

    Outputs, all f32 or int32: `score` [n, 1], `rank` [n, 1] from 0, `top` and `top_ids` [n, MOST_SCORES].
    """
    head = model.get_results()[0].input_value(0).get_node()
    places, following = _input("places", [-1]), _input("following", [-1, 1])
    head.input(0).replace_source_output(op.gather(head.input_value(0), places, _whole(1)).output(0))
    logits = op.squeeze(head.output(0), _whole([0]))
    many = min(MOST_SCORES, head.output(0).get_partial_shape()[2].get_length())
    top = op.topk(logits, _whole(many), 1, "max", "value", "i32")
    highest = op.slice(top.output(0), _whole([0]), _whole([1]), _whole([1]), _whole([1]))
    weights = op.exp(op.subtract(logits, highest))
    # Log probabilities are logits less this; of the chosen token and of the likeliest alike, to the last bit.
    whole = op.add(op.log(op.reduce_sum(weights, _whole([1]), keep_dims=True)), highest)
    own = op.gather_elements(logits, following, 1)
    likelier = op.reduce_sum(op.convert(op.greater(logits, own), "f32"), _whole([1]), keep_dims=True)
    outputs = {
        "score": op.subtract(own, whole),
        "rank": op.convert(likelier, "i32"),
        "top": op.subtract(top.output(0), whole),
        "top_ids": top.output(1),
    }
    results = []
    for name, value in outputs.items():
        result = op.result(value)
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    return ov.Model(results, model.get_sinks(), [*model.get_parameters(), places, following], "scoring")


def _input(name: str, shape: list[int]) -> ov.Node:
    node = op.parameter(shape, ov.Type.i64, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _whole(values: int | list[int]) -> ov.Node:
    return op.constant(np.array(values, np.int64))
