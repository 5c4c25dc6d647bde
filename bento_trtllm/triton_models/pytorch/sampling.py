"""What a request asks for, in the terms of TensorRT-LLM's LLM API; and which of that TensorRT-LLM cannot do.

Fields: tensorrt_llm/sampling_params.py (1.3.0rc3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from faults import RequestError
from guide import KIND, Guide
from request import EngineRequest
from tensorrt_llm import SamplingParams
from tensorrt_llm.llmapi import GuidedDecodingParams

NO_TOKEN = -1
"""As the end token: no token has this id. None would mean the tokenizer's own."""
UNHEEDED = {
    **{"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0, "bad_words": ()},
    # It counts the prompt's tokens, too (_apply_min_length_penalty in _torch/pyexecutor/sampler.py, 1.3.0rc3).
    "min_tokens": 0,
    # It adds one request's to the rows of others, or fails all of them (_apply_embedding_bias, as above).
    "embedding_bias": None,
}
"""Of a request, with what asks for nothing: what the sampler that goes with speculation does not do, or not rightly."""
TENSORS = {"bad_words": "bad_words_list", "min_p": "runtime_min_p"}


@dataclass(frozen=True)
class SamplingTranslator:
    """`guide_end` is the token that ends what follows a guide, the tokenizer's own: the grammar's engine knows no other
    (_xgrammar_tokenizer_info in tokenizer/tokenizer.py). None: there is none, and no guide is taken."""

    speculative: bool
    guide_end: int | None

    def check(self, request: EngineRequest) -> None:
        """Refuse what cannot be done. Raises RequestError."""
        if any(len(word) > 1 for word in request.bad_words):
            raise RequestError(
                "bad_words_list", "bad_words_list has a word of several tokens: the PyTorch engine forbids single ones."
            )
        if self.speculative:
            for name, neutral in UNHEEDED.items():
                value = getattr(request, name)
                if value is not neutral and (neutral is None or value != neutral):
                    tensor = TENSORS.get(name, name)
                    raise RequestError(
                        tensor, f"{tensor} is not heeded with speculative decoding: leave it out, or pack without."
                    )
        if request.guide and self.guide_end is None:
            raise RequestError(
                KIND, f"{KIND} is not supported with this checkpoint: its tokenizer_config.json names no eos_token."
            )
        if request.guide and request.min_tokens:
            raise RequestError("min_tokens", f"min_tokens does not go with {KIND}: the guide says what ends.")

    def end(self, request: EngineRequest) -> int | None:
        """The token that ends an answer."""
        return self.guide_end if request.guide else request.end_id

    def params(self, request: EngineRequest, sequence: int) -> SamplingParams:
        """The parameters for one of a request's sequences."""
        banned = [word[0] for word in request.bad_words]
        stops = [word[0] for word in request.stop_words if len(word) == 1]
        end = self.end(request)
        if request.guide:
            # The other ends would be text to the grammar, and end an answer anywhere.
            stops, others = [], request.end_ids - {end}
            banned += sorted(others)
        values: dict[str, Any] = {
            "end_id": NO_TOKEN if end is None else end,
            "max_tokens": request.max_tokens,
            "stop_token_ids": stops or None,
            # As the contract has it: the word that ended an answer is its last.
            "include_stop_str_in_output": True,
            "bad_token_ids": banned or None,
            "min_tokens": request.min_tokens or None,
            # The service makes the text.
            "detokenize": False,
            "add_special_tokens": False,
            **_choice(request, sequence),
        }
        if request.repetition_penalty != 1:
            values["repetition_penalty"] = request.repetition_penalty
        if request.presence_penalty:
            values["presence_penalty"] = request.presence_penalty
        if request.frequency_penalty:
            values["frequency_penalty"] = request.frequency_penalty
        if request.embedding_bias is not None:
            values["embedding_bias"] = torch.from_numpy(request.embedding_bias)
        if request.log_probs:
            # 0 is none at all before 1.3, and the token itself is there with 1.
            values["logprobs"] = 1
        if request.guide:
            values["guided_decoding"] = guided(request.guide)
        return SamplingParams(**values)


def _choice(request: EngineRequest, sequence: int) -> dict[str, Any]:
    """How tokens are chosen."""
    if not request.sampled:
        return {"top_k": 1}
    chosen: dict[str, Any] = {"temperature": request.temperature, "seed": (request.seed + sequence) % 2**64}
    if request.top_k:
        chosen["top_k"] = request.top_k
    if request.top_p < 1 or not request.top_k:
        chosen["top_p"] = request.top_p
    if request.min_p:
        chosen["min_p"] = request.min_p
    return chosen


def guided(guide: Guide) -> GuidedDecodingParams:
    """A guide as TensorRT-LLM takes it."""
    if guide.kind == "regex":
        return GuidedDecodingParams(regex=guide.text)
    if guide.kind == "ebnf_grammar":
        return GuidedDecodingParams(grammar=guide.text)
    if guide.kind == "json_schema":
        return GuidedDecodingParams(json=guide.text)
    return GuidedDecodingParams(json_object=True)
