"""What one Triton request asks of an engine: tensors in, a checked `EngineRequest` out.

The tensors are those of parameters.py. What an engine does not do is refused by the tensor's name; the value that a
request without the tensor asks for is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from faults import RequestError
from guide import Guide, read_guide
from parameters import PARAMETERS, Parameter
from words import split_words

# A lower temperature is 0, as in generation/generator.py: by 1e-40 an engine divides in f32, into NaN.
LEAST_TEMPERATURE = 1e-5

Tensor = Callable[[str], "npt.NDArray[np.generic] | None"]
"""Gives an input of a request by its name, None where the request has none."""


@dataclass(frozen=True)
class EngineRequest:
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
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    min_tokens: int = 0
    sequences: int = 1
    log_probs: bool = False
    top_log_probs: int = 0
    """How many of the likeliest tokens come with each token of the answer."""
    prompt_log_probs: int | None = None
    """How many come with each token of the prompt, beside its own score; None: no scores."""
    guide: Guide | None = None
    embedding_bias: npt.NDArray[np.float32] | None = None
    """[vocabulary], added to the logits."""
    echo: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)
    """By tensor: values that no other engine has a use for."""
    end_ids: frozenset[int] = field(init=False)
    tracked: bool = field(init=False)
    """Whether words of more than one token end it or are forbidden: an engine may have to look for them."""

    def __post_init__(self) -> None:
        singles = {word[0] for word in self.stop_words if len(word) == 1}
        if self.end_id is not None:
            singles.add(self.end_id)
        object.__setattr__(self, "end_ids", frozenset(singles))
        tracked = bool(self.bad_words) or any(len(word) > 1 for word in self.stop_words)
        object.__setattr__(self, "tracked", tracked)


@dataclass(frozen=True)
class RequestReader:
    """Reads and checks the requests to one engine."""

    engine: str
    """By the name that parameters.py has."""
    title: str
    """As people call it."""
    vocab_size: int
    context_length: int
    echo: bool
    """Whether an answer that is not streamed begins with its prompt, if the request does not say."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By tensor: where the engine takes less than parameters.py says."""
    own: frozenset[str] = field(init=False)
    """Tensors that no other engine has."""

    def __post_init__(self) -> None:
        own = frozenset(each.tensor for each in PARAMETERS if each.engines == (self.engine,))
        object.__setattr__(self, "own", own)

    def read(self, tensor: Tensor) -> EngineRequest:
        """Raises RequestError."""
        values: dict[str, Any] = {}
        for parameter in PARAMETERS:
            given = tensor(parameter.tensor)
            values[parameter.tensor] = parameter.default if given is None else self._value(parameter, given)
        prompt = self._prompt(values["input_ids"], values["input_lengths"])
        if values["request_output_len"] is None:
            raise RequestError("request_output_len", "request_output_len is missing.")
        scored = values["num_prompt_log_probs"]
        if values["request_output_len"] == 0 and scored < 0:
            raise RequestError(
                "request_output_len", "request_output_len is 0: that goes with num_prompt_log_probs only."
            )
        temperature, top_k, top_p = values["temperature"], values["runtime_top_k"], values["runtime_top_p"]
        end_id, exclude = values["end_id"], values["exclude_input_in_output"]
        request = EngineRequest(
            prompt=prompt,
            max_tokens=min(values["request_output_len"], self.context_length - len(prompt)),
            streaming=values["streaming"],
            end_id=end_id if end_id is not None and end_id >= 0 else None,
            stop_words=values["stop_words_list"] or (),
            bad_words=values["bad_words_list"] or (),
            # As in TensorRT-LLM: without top-k and top-p the likeliest token is taken, whatever the temperature.
            sampled=temperature >= LEAST_TEMPERATURE and top_k != 1 and (top_k > 0 or top_p > 0),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p or 1.0,
            min_p=values["runtime_min_p"],
            repetition_penalty=values["repetition_penalty"],
            presence_penalty=values["presence_penalty"],
            frequency_penalty=values["frequency_penalty"],
            seed=values["seed"],
            min_tokens=values["min_tokens"],
            sequences=values["num_return_sequences"],
            log_probs=values["return_log_probs"],
            top_log_probs=values["num_top_log_probs"],
            prompt_log_probs=scored if scored >= 0 else None,
            guide=read_guide(
                values["guided_decoding_guide_type"] or "", values["guided_decoding_guide"] or "", self.title
            ),
            embedding_bias=self._bias(values["embedding_bias"]),
            echo=self.echo if exclude is None else not exclude,
            own={name: values[name] for name in self.own},
        )
        if request.echo and request.streaming:
            raise RequestError(
                "exclude_input_in_output",
                "exclude_input_in_output=false goes with streaming=false: the prompt is not streamed.",
            )
        return request

    def _value(self, parameter: Parameter, given: npt.NDArray[np.generic]) -> Any:
        """A tensor's value: a number, a text, an array, or words."""
        name = parameter.tensor
        if parameter.words:
            return self._words(name, given.astype(np.int32))
        if not parameter.scalar and parameter.dtype != "BYTES":
            if not parameter.done_by(self.engine):
                raise self._unsupported(parameter)
            return given
        if given.size != 1:
            wanted = "send one prompt a request" if parameter.scalar else "send one"
            raise RequestError(name, f"{name} holds {given.size} values: {wanted}.")
        value = given.reshape(-1)[0]
        if parameter.dtype == "BYTES":
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise RequestError(name, f"{name} is not UTF-8.") from error
        return self._number(parameter, value.item())

    def _number(self, parameter: Parameter, value: Any) -> Any:
        name, neutral = parameter.tensor, parameter.default
        if not parameter.done_by(self.engine):
            # A smaller share than the least that counts asks for as little.
            if value != neutral and not (name == "runtime_top_p_min" and value <= neutral):
                raise self._unsupported(parameter)
            return neutral
        low, high = self.bounds.get(name, (parameter.low, parameter.high))
        if low is not None and high is not None and not low <= value <= high:  # false for NaN, too
            raise RequestError(name, f"{name} is {value}: it must lie between {low} and {high}.")
        return value

    def _unsupported(self, parameter: Parameter) -> RequestError:
        name, neutral = parameter.tensor, parameter.default
        instead = parameter.instead or ("" if neutral is None else f"send {neutral}")
        remedy = f"leave it out, or {instead}" if instead else "leave it out"
        return RequestError(name, f"{parameter.called or name} is not supported by the {self.title} engine: {remedy}.")

    def _prompt(self, ids: npt.NDArray[np.generic] | None, length: int | None) -> npt.NDArray[np.int64]:
        """int64 [n], of int32 [1, n]."""
        if ids is None or ids.size == 0:
            raise RequestError("input_ids", "input_ids is empty: send at least one token.")
        if ids.reshape(-1).shape[0] != ids.shape[-1]:
            raise RequestError(
                "input_ids", f"input_ids has shape {list(ids.shape)}: send one prompt a request, [1, n]."
            )
        prompt = ids.reshape(-1).astype(np.int64)
        if length is not None and length != len(prompt):
            raise RequestError("input_lengths", f"input_lengths is {length}, but input_ids has {len(prompt)} tokens.")
        if prompt.min() < 0 or prompt.max() >= self.vocab_size:
            raise RequestError("input_ids", f"input_ids has a token outside the vocabulary of {self.vocab_size}.")
        if len(prompt) >= self.context_length:
            raise RequestError(
                "input_ids",
                f"input_ids has {len(prompt)} tokens, and the context length is {self.context_length}: shorten the "
                "prompt.",
            )
        return prompt

    def _bias(self, bias: npt.NDArray[np.generic] | None) -> npt.NDArray[np.float32] | None:
        """float32 [vocabulary], of float32 [1, vocabulary]. An engine fails in a step for all, where it is of another
        width."""
        if bias is None or bias.size == 0:
            return None
        if bias.size != self.vocab_size:
            raise RequestError(
                "embedding_bias",
                f"embedding_bias has {bias.size} numbers, and the vocabulary {self.vocab_size} tokens.",
            )
        return bias.reshape(-1).astype(np.float32)

    def _words(self, name: str, tensor: npt.NDArray[np.int32]) -> tuple[tuple[int, ...], ...]:
        rows = tensor.reshape(-1, tensor.shape[-1])
        if rows.shape[0] != 2:
            raise RequestError(name, f"{name} has shape {list(tensor.shape)}: send [1, 2, n].")
        try:
            found = split_words(*rows.tolist())
        except ValueError as error:
            raise RequestError(name, f"{name} has {error}.") from error
        if any(not 0 <= token < self.vocab_size for word in found for token in word):
            raise RequestError(name, f"{name} has a token outside the vocabulary of {self.vocab_size}.")
        return tuple(found)
