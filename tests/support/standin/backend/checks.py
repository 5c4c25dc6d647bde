"""What upstream asks of a request: as it is made, in the thread of Triton's call, and as the Executor fetches it.

Lines are those of 1.3.0rc3. The Executor of 0.10.0 is closed: that it asks the same is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensors import Request
from upstream import LIBRARY, failed, thrown

SAMPLING = f"{LIBRARY}executor/samplingConfig.cpp"
REQUEST = f"{LIBRARY}executor/requestImpl.h"
LLM_REQUEST = f"{LIBRARY}batch_manager/llmRequest.cpp"
EXECUTOR = f"{LIBRARY}executor/executorImpl.cpp"
Number = Any

BOUNDS: tuple[tuple[str, Callable[[Number], bool], str, int], ...] = (
    (
        "beam_width",
        lambda v: 0 < v <= 1024,
        "beamWidth > 0 && beamWidth <= static_cast<SizeType32 const>(tensorrt_llm::kernels::kMaxBeamWidth)",
        289,
    ),
    ("runtime_top_k", lambda v: v >= 0, "topK.value() >= 0", 297),
    ("runtime_top_p", lambda v: v <= 1, "topP.value() <= 1.f", 307),
    ("runtime_top_k_min", lambda v: v >= 0, "topPMin.value() >= 0.f", 316),
    ("runtime_top_p_reset_ids", lambda v: v >= 0, "topPResetIds.value() >= 0", 326),
    ("runtime_top_p_decay", lambda v: v > 0, "topPDecay.value() > 0.f", 335),
    ("temperature", lambda v: v >= 0, "temperature.value() >= 0.f", 345),
    ("min_tokens", lambda v: v >= 0, "minTokens.value() >= 0", 354),
    ("beam_search_diversity_rate", lambda v: v >= 0, "beamSearchDiversityRate.value() >= 0.f", 363),
    ("repetition_penalty", lambda v: v > 0, "repetitionpenalty.value() > 0.f", 372),
    ("len_penalty", lambda v: v >= 0, "lengthPenalty.value() >= 0.f", 390),
    ("num_return_sequences", lambda v: v > 0, "numReturnSequences.value() > 0", 417),
)
"""Scalars that the constructor of SamplingConfig asks about, its own words, and its lines."""


def check_made(request: Request) -> None:
    """Raises TllmError where executor::Request could not be made: Triton's call gets the error."""
    for name, holds, words, line in BOUNDS:
        value = request.sampling[name]
        if value is not None and not holds(value):
            raise failed(words, f"{SAMPLING}:{line}")
    if not request.input_ids:
        raise failed("!mInputTokenIds.empty()", f"{REQUEST}:498")
    if request.max_tokens <= 0:
        raise failed("mMaxNewTokens > 0", f"{REQUEST}:499")
    if request.guide and (request.sampling["beam_width"] or 1) > 1:
        raise thrown("Guided decoding does not support with beam search.", f"{REQUEST}:517")


@dataclass(frozen=True)
class Limits:
    """What the engine was built for, from its config.json, and how the Executor is set."""

    vocab_size: int
    max_seq_len: int
    max_input_len: int
    """The longest prompt (trtGptModel.h:156 to 185)."""
    max_batch_size: int
    chunked_context: bool
    max_utilization: bool
    guide_ends: frozenset[int] = frozenset()
    """The stop_token_ids of xgrammar_tokenizer_info.json; empty without guided decoding."""

    @classmethod
    def read(cls, engine: Path, parameters: Mapping[str, str]) -> Limits:
        config = json.loads((engine / "config.json").read_text())
        build = config["build_config"]
        backend = parameters.get("guided_decoding_backend")
        info = parameters.get("xgrammar_tokenizer_info_path") if backend else None
        longest = build["max_seq_len"] - 1
        # Left out, it is false (model_instance_state.cc:518; 0.10.0: 351).
        chunked = parameters.get("enable_chunked_context") == "true"
        return cls(
            vocab_size=config["pretrained_config"]["vocab_size"],
            max_seq_len=build["max_seq_len"],
            max_input_len=longest if chunked else min(longest, build["max_num_tokens"]),
            max_batch_size=build["max_batch_size"],
            chunked_context=chunked,
            max_utilization=parameters.get("batch_scheduler_policy") == "max_utilization",
            guide_ends=frozenset(json.loads(Path(info).read_text())["stop_token_ids"]) if info else frozenset(),
        )


def check_fetched(request: Request, limits: Limits) -> int:
    """The tokens that the answer may have. Raises TllmError where the Executor does not take the request."""
    if request.end_id is not None and not -1 <= request.end_id < limits.vocab_size:
        raise failed(
            f"EndId ({request.end_id}) is not within acceptable range [-1, {limits.vocab_size}).", f"{LLM_REQUEST}:249"
        )
    prompt = len(request.input_ids)
    if prompt > limits.max_input_len:
        raise thrown(
            f"Prompt length ({prompt}) exceeds maximum input length ({limits.max_input_len}). Set log level to info "
            "and check TRTGptModel logs for how maximum input length is set",
            f"{LLM_REQUEST}:262",
        )
    wanted = min(request.max_tokens, limits.max_seq_len - prompt)
    restarted = request.streaming and limits.max_utilization and not limits.chunked_context
    if restarted and prompt + wanted - 1 > limits.max_input_len:
        raise failed(
            "Request sequence length is potentially greater than max input length. This cannot be run unless "
            "streaming is disabled, context chunking is enabled or the GUARANTEED_NO_EVICT scheduling policy is used",
            f"{EXECUTOR}:1560",
        )
    if request.flags["return_context_logits"]:
        raise failed("Return context logit need to build engine with gather_context_logits", f"{EXECUTOR}:1597")
    if request.flags["return_generation_logits"]:
        raise failed(
            "To return generation logits, gather_generation_logits must be enabled in ExecutorConfig",
            f"{EXECUTOR}:1605",
        )
    if request.guide and not limits.guide_ends:
        raise failed(
            "Request is specified with GuidedDecodingParams, but GuidedDecoder is not setup. Please provide a valid "
            "GuidedDecodingConfig to setup GuidedDecoder.",
            f"{EXECUTOR}:1622",
        )
    return wanted


def check_decoded(request: Request, limits: Limits) -> None:
    """Raises TllmError in the first step of a request, which fails that step for all."""
    if (beams := request.sampling["beam_width"] or 1) > 1:
        raise failed(
            f"Requested beam width {beams} is larger than configured max beam width 1",
            f"{LIBRARY}batch_manager/trtGptModelInflightBatching.cpp:2499",
        )
    if request.embedding_bias and len(request.embedding_bias) != limits.vocab_size:
        raise failed(
            "The embedding bias shape is not as expected. Expected last dimension to be same as vocab size: "
            f"{limits.vocab_size}.",
            f"{LIBRARY}batch_manager/createNewDecoderRequests.cpp:248",
        )
