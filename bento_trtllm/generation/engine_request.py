"""Translates a request into what the engine is asked for."""

import secrets
from dataclasses import replace

from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.errors import InvalidRequest
from bento_trtllm.generation.parameters import FORBIDDEN, GenerationRequest, Sampling
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.generation.tokenizer import AnswerTokenizer
from bento_trtllm.grammar.expressions import Rule
from bento_trtllm.grammar.grammar import ROOT, Grammar

CONTEXT_EXCEEDED = "context_length_exceeded"


def engine_request(request: GenerationRequest, engine: EngineProfile, tokenizer: AnswerTokenizer) -> TokenRequest:
    """What to ask the engine for. Raises InvalidRequest for what it cannot do."""
    sampling = request.sampling
    _check_prompt(len(request.input_ids), engine)
    max_tokens = min(request.max_tokens, engine.context_length - len(request.input_ids))
    ends = () if sampling.ignore_end else engine.end_ids
    others = [*ends[1:], *stop_tokens(sampling, engine, tokenizer)]
    least = min(sampling.min_tokens or 0, max_tokens) if ends or others else 0
    # The other end tokens are then banned, and only the first can end the answer.
    forbidden = others if least and engine.bans_first_end_only else ()
    asked = TokenRequest(
        request.input_ids,
        max_tokens,
        # TensorRT-LLM takes one end token; a Llama 3 has up to three.
        end_id=ends[0] if ends else None,
        stop_words=[[i] for i in others if i not in forbidden],
        bad_words=[[i] for i in forbidden],
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        min_tokens=least or None,
        guide=_guide(sampling.grammar, max_tokens, engine, tokenizer),
        log_probs=sampling.log_probs,
        top_log_probs=sampling.top_log_probs or None,
        prompt_log_probs=request.prompt_scores,
    )
    if sampling.bias:
        banned, bias = _bias(sampling.bias, engine.vocab_size)
        asked = replace(asked, bad_words=[*asked.bad_words, *banned], embedding_bias=bias)
    if sampling.greedy:
        return asked
    return replace(
        asked,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        # Without either the engine would be greedy, whatever the temperature.
        top_p=sampling.top_p if sampling.top_p is not None else (None if sampling.top_k else 1.0),
        min_p=sampling.min_p or None,
        seed=sampling.seed if sampling.seed is not None else secrets.randbits(63),
    )


def stop_tokens(sampling: Sampling, engine: EngineProfile, tokenizer: AnswerTokenizer) -> dict[int, str | int]:
    """The tokens that were asked to end an answer and don't anyway, each with what was asked for.

    An answer of a grammar ends by itself.
    """
    if sampling.grammar:
        return {}
    ends = () if sampling.ignore_end else engine.end_ids
    names = {token: name for name in sampling.stop if (token := tokenizer.control(name)) is not None}
    return {token: asked for token, asked in ({i: i for i in sampling.stop_ids} | names).items() if token not in ends}


def _check_prompt(tokens: int, engine: EngineProfile) -> None:
    if tokens >= engine.context_length:
        raise InvalidRequest(
            f"This model's maximum context length is {engine.context_length} tokens, prompt and answer together, and "
            f"the prompt has {tokens}: shorten it.",
            code=CONTEXT_EXCEEDED,
        )
    if tokens > engine.longest_prompt:
        raise InvalidRequest(
            f"The prompt is {tokens} tokens long, and without chunked context the engine takes "
            f"{engine.longest_prompt}: shorten the prompt.",
            code=CONTEXT_EXCEEDED,
        )


def _guide(
    grammar: Grammar | None, max_tokens: int, engine: EngineProfile, tokenizer: AnswerTokenizer
) -> tuple[str, str] | None:
    if grammar is None:
        return None
    if not engine.guided:
        raise InvalidRequest(
            "The packed engine has no guided decoding (releases from 25.09 on have it, TensorRT-LLM 1.0.0): "
            "leave out response_format, structured_outputs and guided_…, and tool_choice if it names or requires a "
            "function.",
            field="grammar",
        )
    least = tokenizer.count(grammar.shortest(Rule(ROOT)))
    if least > max_tokens:
        raise InvalidRequest(
            f"The shortest answer of this form takes {least} tokens: allow more than {max_tokens}.",
            field="max_tokens",
        )
    return "ebnf_grammar", grammar.ebnf


def _bias(bias: tuple[tuple[int, float], ...], vocab_size: int) -> tuple[list[list[int]], list[float]]:
    """If all tokens are merely forbidden they become bad words, which every engine supports; else a bias per token."""
    if all(value <= FORBIDDEN for _, value in bias):
        return [[token] for token, _ in bias], []
    values = [0.0] * vocab_size
    for token, value in bias:
        values[token] = value
    return [], values
