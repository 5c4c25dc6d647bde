"""What one Triton request asks of the engine: tensors in, a checked `GenerationRequest` out.

Tensor names, dtypes and shapes are those of NVIDIA's inflight_batcher_llm, TensorRT-LLM 1.x. Whatever
OpenVINO GenAI cannot do is refused by the tensor's name; a value that changes nothing is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from guide import Guide, read_guide

# Tensor -> the value that asks for nothing. Any other value is refused.
NEUTRAL = {
    "beam_width": 1,
    "len_penalty": 1.0,
    "early_stopping": False,
    "beam_search_diversity_rate": 0.0,
    "runtime_top_p_min": 1e-6,
    "runtime_top_p_decay": 1.0,
    "runtime_top_p_reset_ids": -1,
    "return_context_logits": False,
    "return_generation_logits": False,
}

# OpenVINO GenAI takes no more for presence_penalty and frequency_penalty (generation_config.cpp, 2026.4).
PENALTY_LIMIT = 2.0
# A lower temperature is 0, as in generation/generator.py: by 1e-40 OpenVINO GenAI divides in f32, into NaN.
LEAST_TEMPERATURE = 1e-5


class RequestError(ValueError):
    """A request that the engine refuses, in one sentence that names the tensor."""


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and how to continue it. Token ids are ints, penalties and temperature plain floats."""

    prompt: npt.NDArray[np.int64]  # [n]
    max_tokens: int
    streaming: bool = False
    end_id: int | None = None
    stop_words: tuple[tuple[int, ...], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    sampled: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    min_tokens: int = 0
    sequences: int = 1
    log_probs: bool = False
    guide: Guide | None = None
    echo: bool = False
    end_ids: frozenset[int] = field(init=False)
    tracked: bool = field(init=False)

    def __post_init__(self) -> None:
        singles = {word[0] for word in self.stop_words if len(word) == 1}
        if self.end_id is not None:
            singles.add(self.end_id)
        object.__setattr__(self, "end_ids", frozenset(singles))
        # Words of several tokens and bad words are matched here, the rest in the engine.
        tracked = bool(self.bad_words) or any(len(word) > 1 for word in self.stop_words)
        object.__setattr__(self, "tracked", tracked)


def words(name: str, tensor: npt.NDArray[np.int32]) -> Iterable[tuple[int, ...]]:
    """The token sequences of a `stop_words_list` or `bad_words_list`.

    int32 [1, 2, n]: row 0 the ids of all words one after the other, row 1 the end of each word in row 0,
    padded with -1.
    """
    rows = tensor.reshape(-1, tensor.shape[-1])
    if rows.shape[0] != 2:
        raise RequestError(f"{name} has shape {list(tensor.shape)}: send [1, 2, n].")
    start = 0
    for end in rows[1].tolist():
        if end < 0:
            return
        if not start <= end <= rows.shape[1]:
            raise RequestError(f"{name} has offsets that do not rise, or that pass its end.")
        if end > start:
            yield tuple(rows[0, start:end].tolist())
        start = end


def checked_guide(tensor: Callable[[str], npt.NDArray[np.generic] | None]) -> Guide | None:
    """The guide of a request, if it has one. Raises RequestError."""
    try:
        return read_guide(tensor)
    except ValueError as error:
        raise RequestError(str(error)) from error


def check_guided(request: GenerationRequest) -> None:
    """Refuse what does not go with a guide, which must be followed to its end. Raises RequestError."""
    if request.bad_words:
        raise RequestError("bad_words_list does not go with guided_decoding_guide_type on OpenVINO.")
    if request.min_tokens:
        raise RequestError("min_tokens does not go with guided_decoding_guide_type: the guide says what ends.")
    if not request.end_ids:
        raise RequestError("end_id is missing: with guided_decoding_guide_type an answer needs a token to end it.")


def parse(
    tensor: Callable[[str], npt.NDArray[np.generic] | None],
    *,
    vocab_size: int,
    context_length: int,
    echo: bool,
) -> GenerationRequest:
    """Read and check a request.

    `tensor` gives an input by its name, or None where the request has none; `echo` is what the model's
    configuration says of exclude_input_in_output, turned round. Raises RequestError.
    """

    def scalar(name: str) -> int | float | bool | None:
        value = tensor(name)
        if value is None:
            return None
        if value.size != 1:
            raise RequestError(f"{name} holds {value.size} values: send one prompt a request.")
        return value.reshape(-1)[0].item()  # type: ignore[no-any-return]

    def number(name: str, default: float, low: float, high: float) -> float:
        value = scalar(name)
        if value is None:
            return default
        if not low <= value <= high:  # also false for NaN
            raise RequestError(f"{name} is {value}: it must lie between {low} and {high}.")
        return value

    for name, neutral in NEUTRAL.items():
        value = scalar(name)
        if value is not None and value != neutral and not (name == "runtime_top_p_min" and value <= neutral):
            raise RequestError(f"{name} is not supported by the OpenVINO engine: leave it out, or send {neutral}.")
    if tensor("embedding_bias") is not None:
        raise RequestError("embedding_bias is not supported by the OpenVINO engine: leave it out.")

    ids = tensor("input_ids")
    if ids is None or ids.size == 0:
        raise RequestError("input_ids is empty: send at least one token.")
    if ids.reshape(-1).shape[0] != ids.shape[-1]:
        raise RequestError(f"input_ids has shape {list(ids.shape)}: send one prompt a request, [1, n].")
    prompt = ids.reshape(-1).astype(np.int64)
    if (length := scalar("input_lengths")) is not None and length != len(prompt):
        raise RequestError(f"input_lengths is {length}, but input_ids has {len(prompt)} tokens.")
    if prompt.min() < 0 or prompt.max() >= vocab_size:
        raise RequestError(f"input_ids has a token outside the vocabulary of {vocab_size}.")
    if len(prompt) >= context_length:
        raise RequestError(
            f"input_ids has {len(prompt)} tokens, and the context length is {context_length}: shorten the prompt."
        )

    wanted = number("request_output_len", 0, 1, 2**31 - 1)
    if not wanted:
        raise RequestError("request_output_len is missing.")
    lists = {}
    for name in ("stop_words_list", "bad_words_list"):
        listed = tensor(name)
        lists[name] = () if listed is None else tuple(words(name, listed.astype(np.int32)))
        if any(not 0 <= token < vocab_size for word in lists[name] for token in word):
            raise RequestError(f"{name} has a token outside the vocabulary of {vocab_size}.")

    temperature = number("temperature", 1.0, 0.0, 1e6)
    top_k = int(number("runtime_top_k", 0, 0, 2**31 - 1))
    top_p = number("runtime_top_p", 0.0, 0.0, 1.0)
    end_id = scalar("end_id")
    exclude = scalar("exclude_input_in_output")
    request = GenerationRequest(
        prompt=prompt,
        max_tokens=min(int(wanted), context_length - len(prompt)),
        streaming=bool(scalar("streaming") or False),
        end_id=int(end_id) if end_id is not None and end_id >= 0 else None,
        stop_words=lists["stop_words_list"],
        bad_words=lists["bad_words_list"],
        # As in TensorRT-LLM: without top-k and top-p the likeliest token is taken, whatever the temperature.
        sampled=temperature >= LEAST_TEMPERATURE and top_k != 1 and (top_k > 0 or top_p > 0),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p or 1.0,
        repetition_penalty=number("repetition_penalty", 1.0, 1e-6, 1e6),
        presence_penalty=number("presence_penalty", 0.0, -PENALTY_LIMIT, PENALTY_LIMIT),
        frequency_penalty=number("frequency_penalty", 0.0, -PENALTY_LIMIT, PENALTY_LIMIT),
        seed=int(scalar("seed") or 0),
        min_tokens=int(number("min_tokens", 0, 0, 2**31 - 1)),
        sequences=int(number("num_return_sequences", 1, 1, 256)),
        log_probs=bool(scalar("return_log_probs") or False),
        guide=checked_guide(tensor),
        echo=echo if exclude is None else not exclude,
    )
    if request.echo and request.streaming:
        raise RequestError("exclude_input_in_output=false goes with streaming=false: the prompt is not streamed.")
    if request.bad_words and (request.presence_penalty or request.frequency_penalty):
        raise RequestError("bad_words_list does not go with presence_penalty or frequency_penalty on OpenVINO.")
    if request.guide:
        check_guided(request)
    return request
