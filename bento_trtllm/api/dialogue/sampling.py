"""From a request's fields to the core's `Sampling`; what no engine can do is refused by the field's name."""

import re
from collections.abc import Sequence
from dataclasses import replace

from bento_trtllm.api.dialogue.fields import SamplingFields
from bento_trtllm.api.errors import bad_request
from bento_trtllm.generation.parameters import MAX_TOP_K, Sampling
from bento_trtllm.grammar.grammar import Grammar
from bento_trtllm.manifest import Manifest
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.triton_models.shared.parameters import PARAMETERS

# More digits than any vocabulary has; Python refuses to read numbers of thousands.
TOKEN_ID = re.compile(r"[0-9]{1,9}")


def read_sampling(
    request: SamplingFields,
    defaults: Defaults,
    manifest: Manifest,
    *,
    grammar: Grammar | None = None,
    top_logprobs: int | None = None,
    scores_field: str = "top_logprobs",
) -> Sampling:
    """How to choose tokens. Raises APIError.

    `top_logprobs` is None where no scores are asked for; `scores_field` is the field that asks for them.
    """
    if request.min_p:
        require(manifest, "runtime_min_p", "min_p")
    if request.ignore_eos and grammar:
        raise bad_request("ignore_eos does not go with an answer of a given form.", param="ignore_eos")
    own = request.temperature is not None or request.top_p is not None or request.top_k is not None
    top_k = request.top_k if own else defaults.top_k
    stop = request.stop or ()
    sampling = Sampling(
        temperature=(1.0 if own else defaults.temperature) if request.temperature is None else request.temperature,
        top_p=request.top_p if own else defaults.top_p,
        min_p=request.min_p or None,
        top_k=min(top_k, MAX_TOP_K) if top_k and top_k > 0 else None,
        seed=None if request.seed is None else request.seed % 2**64,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_ids=_stop_ids(request.stop_token_ids or (), manifest.vocab_size),
        keep_stop=bool(request.include_stop_str_in_output),
        named=request.skip_special_tokens is False,
        repetition_penalty=request.repetition_penalty or defaults.repetition_penalty,
        presence_penalty=request.presence_penalty or None,
        frequency_penalty=request.frequency_penalty or None,
        bias=_bias(request.logit_bias or {}, manifest.vocab_size),
        min_tokens=request.min_tokens or None,
        ignore_end=bool(request.ignore_eos),
        grammar=grammar,
        log_probs=top_logprobs is not None,
    )
    if top_logprobs and (top_logprobs > 1 or not _takes_likeliest(sampling)):
        require(
            manifest,
            "num_top_log_probs",
            scores_field,
            "it gives the score of the chosen token only, so ask for 0, or for 1 with temperature 0 and without "
            "penalties, bias or a given form",
        )
        sampling = replace(sampling, top_log_probs=top_logprobs)
    return sampling


def require(manifest: Manifest, tensor: str, field: str, why: str = "leave it out") -> None:
    """Raises APIError if the packed engine does not do what a field asks for, which travels in this tensor."""
    row = next(row for row in PARAMETERS if row.tensor == tensor)
    if not row.done_by(manifest.engine):
        raise bad_request(f"{field} is not supported by the engine {manifest.engine}: {why}.", param=field)


def _takes_likeliest(sampling: Sampling) -> bool:
    changed = (sampling.repetition_penalty or 1.0) != 1.0 or sampling.presence_penalty or sampling.frequency_penalty
    return sampling.greedy and not (changed or sampling.bias or sampling.grammar)


def _stop_ids(tokens: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    wrong = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if wrong is not None:
        message = f"stop_token_ids has the token {wrong}: ids are from 0 to {vocab_size - 1}."
        raise bad_request(message, param="stop_token_ids")
    return tuple(dict.fromkeys(tokens))


def _bias(biases: dict[str, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    found = []
    for name, value in biases.items():
        if not TOKEN_ID.fullmatch(name) or int(name) >= vocab_size:
            raise bad_request(
                f"logit_bias has the key {name[:20]!r}: keys are token ids below {vocab_size}.", param="logit_bias"
            )
        if value:
            found.append((int(name), value))
    return tuple(found)
