"""What a request may ask for and OpenVINO GenAI 2026.4 cannot do."""

from __future__ import annotations

from faults import RequestError
from request import EngineRequest

# It takes no more (generation_config.cpp).
BOUNDS = {"presence_penalty": (-2.0, 2.0), "frequency_penalty": (-2.0, 2.0)}


def check(request: EngineRequest, guessed: int) -> None:
    """Refuse what does not go together. Raises RequestError.

    Where tokens are guessed, the engine heeds no least number of tokens for those that it guessed right, and forbids
    no token among them (2026.4.1; tests/triton/test_prompt_lookup.py).
    """
    for name, asked in (("bad_words_list", request.bad_words), ("min_tokens", request.min_tokens)):
        if guessed and asked:
            raise RequestError(name, f"{name} does not go with the setting prompt_lookup on OpenVINO.")
    if request.bad_words and (request.presence_penalty or request.frequency_penalty):
        raise RequestError(
            "bad_words_list", "bad_words_list does not go with presence_penalty or frequency_penalty on OpenVINO."
        )
    if request.sequences > 1 and (request.top_log_probs or request.prompt_log_probs is not None):
        tensor = "num_top_log_probs" if request.top_log_probs else "num_prompt_log_probs"
        raise RequestError(tensor, f"{tensor} does not go with num_return_sequences on OpenVINO: send one a request.")
    if request.guide:
        _check_guided(request)


def _check_guided(request: EngineRequest) -> None:
    """A guide must be followed to its end."""
    if request.bad_words:
        raise RequestError("bad_words_list", "bad_words_list does not go with guided_decoding_guide_type on OpenVINO.")
    if request.min_tokens:
        raise RequestError(
            "min_tokens", "min_tokens does not go with guided_decoding_guide_type: the guide says what ends."
        )
    if not request.end_ids:
        raise RequestError(
            "end_id", "end_id is missing: with guided_decoding_guide_type an answer needs a token to end it."
        )
