"""What the engine is asked for, given what a request asks for and what the engine can do."""

from dataclasses import replace
from typing import Any

import pytest

from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.engine_request import engine_request
from bento_trtllm.generation.errors import InvalidRequest
from bento_trtllm.generation.parameters import FORBIDDEN, MAX_TOP_K, Sampling
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.grammar.schema import compile_schema
from tests.support.scripted_source import ByteTokenizer, ask

ENGINE = EngineProfile(vocab_size=8, context_length=20, end_ids=(5, 6, 7), longest_prompt=19, guided=True)


def asked(prompt: str = "Hi", max_tokens: int = 10, engine: EngineProfile = ENGINE, **sampling: Any) -> TokenRequest:
    return engine_request(ask(prompt, max_tokens, **sampling), engine, ByteTokenizer())


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 1e-6, "top_p": 0.5},
        {"temperature": 2.0, "top_p": 0.0},
        {"top_p": 0.0},
    ],
)
def test_greedy_is_asked_for_by_nothing_at_all(sampling: dict[str, Any]) -> None:
    request = asked(**sampling)
    assert (request.temperature, request.top_k, request.top_p, request.seed) == (None, None, None, None)


@pytest.mark.parametrize(
    ("sampling", "temperature", "top_k", "top_p"),
    [
        ({"temperature": 0.7}, 0.7, None, 1.0),
        ({"temperature": 0.7, "top_k": 5}, 0.7, 5, None),
        ({"temperature": 0.7, "top_p": 0.9}, 0.7, None, 0.9),
        ({"top_k": MAX_TOP_K, "top_p": 0.9}, None, MAX_TOP_K, 0.9),
        ({"top_p": 0.9}, None, None, 0.9),
    ],
)
def test_sampling(sampling: dict[str, Any], temperature: float | None, top_k: int | None, top_p: float | None) -> None:
    request = asked(**sampling, seed=3)
    assert (request.temperature, request.top_k, request.top_p, request.seed) == (temperature, top_k, top_p, 3)


def test_without_a_seed_each_request_has_its_own() -> None:
    seeds = {asked(temperature=1.0).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("field", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_are_passed_on(field: str) -> None:
    penalty: Any = {field: 1.5}
    assert getattr(asked(**penalty), field) == 1.5
    assert getattr(asked(), field) is None


@pytest.mark.parametrize(("prompt", "max_tokens", "granted"), [(2, 10, 10), (2, 18, 18), (2, 19, 18), (19, 10, 1)])
def test_an_answer_has_at_most_what_the_context_leaves(prompt: int, max_tokens: int, granted: int) -> None:
    assert asked("x" * prompt, max_tokens).max_tokens == granted


@pytest.mark.parametrize("length", [20, 21, 500])
def test_a_prompt_that_fills_the_context_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequest, match=f"maximum context length is 20 .* has {length}:") as refused:
        asked("x" * length)
    assert (refused.value.code, refused.value.field) == ("context_length_exceeded", None)


def test_a_prompt_that_the_engine_cannot_split_is_refused() -> None:
    engine = replace(ENGINE, longest_prompt=8)
    assert asked("x" * 8, engine=engine).max_tokens == 10
    with pytest.raises(InvalidRequest, match="without chunked context the engine takes 8") as refused:
        asked("x" * 9, engine=engine)
    assert refused.value.code == "context_length_exceeded"


def test_the_first_end_token_and_the_others() -> None:
    request = asked()
    assert (request.end_id, request.stop_words, request.bad_words) == (5, [[6], [7]], [])
    request = asked(ignore_end=True)
    assert (request.end_id, request.stop_words, request.min_tokens) == (None, [], None)
    request = asked(engine=replace(ENGINE, end_ids=()))
    assert (request.end_id, request.stop_words) == (None, [])


@pytest.mark.parametrize(("least", "told"), [(None, None), (0, None), (4, 4), (10, 10), (11, 10)])
def test_min_tokens(least: int | None, told: int | None) -> None:
    assert asked(min_tokens=least).min_tokens == told
    assert asked(min_tokens=least, ignore_end=True).min_tokens is None


def test_an_engine_that_holds_back_its_first_end_token_alone_never_gives_the_others() -> None:
    engine = replace(ENGINE, bans_first_end_only=True)
    request = asked(engine=engine, min_tokens=3)
    assert (request.end_id, request.stop_words, request.bad_words) == (5, [], [[6], [7]])
    request = asked(engine=engine)
    assert (request.end_id, request.stop_words, request.bad_words) == (5, [[6], [7]], [])


def test_tokens_that_are_only_forbidden_are_bad_words() -> None:
    request = asked(bias=((1, FORBIDDEN), (3, FORBIDDEN)))
    assert (request.bad_words, request.embedding_bias) == ([[1], [3]], [])
    request = asked(bias=((1, FORBIDDEN),), min_tokens=1, engine=replace(ENGINE, bans_first_end_only=True))
    assert request.bad_words == [[6], [7], [1]]


def test_any_other_bias_has_a_number_for_each_token() -> None:
    request = asked(bias=((1, FORBIDDEN), (3, 2.5)))
    assert (request.bad_words, request.embedding_bias) == ([], [0, -100.0, 0, 2.5, 0, 0, 0, 0])


def test_a_grammar_is_the_engines_guide() -> None:
    grammar = compile_schema({"type": "boolean"})
    assert asked(grammar=grammar).guide == ("ebnf_grammar", grammar.ebnf)
    assert asked().guide is None


def test_a_grammar_for_an_engine_without_guided_decoding_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no guided decoding") as refused:
        asked(grammar=compile_schema({"type": "boolean"}), engine=replace(ENGINE, guided=False))
    assert refused.value.field == "grammar"


@pytest.mark.parametrize("tokens", [3, 4])
def test_the_shortest_answer_must_fit(tokens: int) -> None:
    grammar = compile_schema({"type": "boolean"})  # true has four bytes
    if tokens == 4:
        assert asked(max_tokens=tokens, grammar=grammar).guide
        return
    with pytest.raises(InvalidRequest, match="takes 4 tokens: allow more than 3") as refused:
        asked(max_tokens=tokens, grammar=grammar)
    assert refused.value.field == "max_tokens"
    with pytest.raises(InvalidRequest):  # what is left of the context counts, too
        asked("x" * 17, max_tokens=10, grammar=grammar)


def test_log_probs_are_asked_for() -> None:
    assert asked(log_probs=True).log_probs and not asked().log_probs


@pytest.mark.parametrize(
    ("sampling", "greedy"),
    [
        (Sampling(), True),
        (Sampling(top_k=1), False),
        (Sampling(top_p=0.1), False),
        (Sampling(temperature=0.00002), False),
        (Sampling(temperature=0.000001), True),
        (Sampling(temperature=1.0, top_p=0.0), True),
    ],
)
def test_what_is_greedy(sampling: Sampling, greedy: bool) -> None:
    assert sampling.greedy is greedy
