"""Where the stand-in's tokens come from: OpenVINO GenAI, behind upstream's rules.

The modules `request`, `guide` and `sequence` are those of this project's OpenVINO engine. What the source cannot do
is not upstream's: it knows a bias only as a token that never comes (-50 and less) or as one of those that alone may
come (50 and more).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import openvino_genai as genai
from checks import Limits
from guide import Guide
from request import EngineRequest
from sequence import Sequence
from tensors import Request

FORCED = 50.0
BLOCKS = 1024


@dataclass(frozen=True)
class Order(EngineRequest):
    """What a sequence takes; its one end token is `end_id`, and `min_tokens` holds for that alone.

    A guide has its own, of xgrammar_tokenizer_info.json: they come at its end, and nowhere else.
    """

    banned: frozenset[int] = frozenset()
    guide_ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        ends = () if self.end_id is None or self.end_id < 0 else (self.end_id,)
        object.__setattr__(self, "end_ids", frozenset(ends) | (self.guide_ends if self.guide else frozenset()))
        object.__setattr__(self, "tracked", bool(self.bad_words or self.stop_words or self.banned))


@dataclass
class Tokens(Sequence):
    """A sequence as the GPU's decoder has it: stop words end it from the first token on, whatever min_tokens says."""

    def _stops(self) -> bool:
        end = self.tokens[-1] in self.request.end_ids
        return end or any(self._ends_with(word) for word in self.request.stop_words)

    def _forbidden(self) -> frozenset[int]:
        order = self.request
        assert isinstance(order, Order)
        banned = order.banned | {word[-1] for word in order.bad_words if self._ends_with(word[:-1])}
        if banned and len(self.tokens) < order.min_tokens:
            banned |= order.end_ids
        return frozenset(banned)


def order(request: Request, max_tokens: int, limits: Limits) -> Order:
    """A request in the source's terms. Without top_k and top_p it is greedy, whatever the temperature."""
    value = request.sampling
    temperature, top_k, top_p = value["temperature"], value["runtime_top_k"] or 0, value["runtime_top_p"] or 0.0
    bias = request.embedding_bias
    banned = {i for i, number in enumerate(bias) if number <= -FORCED}
    if allowed := {i for i, number in enumerate(bias) if number >= FORCED}:
        banned = set(range(limits.vocab_size)) - allowed
    return Order(
        prompt=np.array(request.input_ids, np.int64),
        max_tokens=max_tokens,
        end_id=request.end_id,
        stop_words=request.stop_words,
        bad_words=request.bad_words,
        sampled=temperature != 0 and top_k != 1 and (top_k > 0 or top_p > 0),
        temperature=1.0 if temperature is None else temperature,
        top_k=int(top_k),
        top_p=top_p or 1.0,
        # Of the LLM API alone: the backend has no such tensor.
        min_p=value.get("runtime_min_p") or 0.0,
        repetition_penalty=value["repetition_penalty"] or 1.0,
        presence_penalty=value["presence_penalty"] or 0.0,
        frequency_penalty=value["frequency_penalty"] or 0.0,
        # Upstream's default of its sampling layer: without a seed, every answer is the same.
        seed=int(value["seed"] or 0),
        min_tokens=int(value["min_tokens"] or 0),
        log_probs=request.flags["return_log_probs"],
        guide=Guide(*request.guide) if request.guide else None,
        banned=frozenset(banned),
        guide_ends=limits.guide_ends,
    )


class Source:
    """A pipeline that makes tokens, one a step and sequence."""

    def __init__(self, engine: Path, max_batch_size: int) -> None:
        """`engine` names the folder of OpenVINO's engine: the content of rank0.engine."""
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 1024
        scheduler.max_num_seqs = max_batch_size
        scheduler.max_num_batched_tokens = 512
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = False
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        folder = Path(engine.read_text())
        self.pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
        pause = folder / "pause_s"
        self._pause_s = float(pause.read_text()) if pause.exists() else 0.0
        self._next = 0

    @cached_property
    def blocks(self) -> int:
        return 1024

    def step(self) -> None:
        """One step of all sequences, which takes so much longer as a test has it (tests/support/serving.py)."""
        time.sleep(self._pause_s)
        self.pipeline.step()

    def enter(self, tokens: Tokens) -> None:
        """Let a sequence take part from the next step on. Raises RuntimeError."""
        tokens.submit(self.pipeline, self._next)
        self._next += 1

    @property
    def used(self) -> float:
        """The share of the KV cache that is in use, in percent."""
        return float(self.pipeline.get_metrics().cache_usage)
