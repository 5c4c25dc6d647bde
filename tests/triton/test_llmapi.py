"""The PyTorch engine's Triton model by plain gRPC: what other programs may ask of it, beyond what the service does."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.support.inference import Reply, ids, infer, one, open_stream, request, words
from tests.support.serving import DEMO, Service
from tests.support.tiny import until

pytestmark = pytest.mark.engines("pytorch")
PROMPT = ids()
VOCABULARY = json.loads((DEMO / "config.json").read_text("utf-8"))["vocab_size"]
Ask = Callable[..., Reply]
SAMPLED = {"temperature": one(4, np.float32), "runtime_top_p": one(1.0, np.float32)}


@pytest.fixture
def ask(service: Service) -> Ask:
    """Sends one request to its end."""
    address = service.grpc_address()

    def asked(outputs: list[str] | None = None, **inputs: Any) -> Reply:
        return infer(address, "tensorrt_llm", request(PROMPT) | inputs, outputs or ["output_ids", "sequence_index"])

    return asked


@pytest.fixture
def greedy(ask: Ask) -> list[int]:
    return ask().tokens()


def test_sequences_are_those_of_seeds_in_a_row(ask: Ask) -> None:
    several = ask(**SAMPLED, seed=one(5, np.uint64), num_return_sequences=one(2))
    alone = [ask(**SAMPLED, seed=one(seed, np.uint64)).tokens() for seed in (5, 6)]
    assert [several.tokens(0), several.tokens(1)] == alone
    assert alone[0] != alone[1]
    whole = ask(**SAMPLED, seed=one(5, np.uint64), num_return_sequences=one(2), streaming=one(False, bool))
    assert [whole.tokens(0), whole.tokens(1)] == alone and len(whole.outputs) == 2


def test_a_stop_word_of_several_tokens_is_the_answers_end(ask: Ask, greedy: list[int], service: Service) -> None:
    assert ask(stop_words_list=words(greedy[2:4])).tokens() == greedy[:4]
    assert ask(stop_words_list=words(greedy[2:4], [greedy[1]])).tokens() == greedy[:2]
    until(partial(idle, service))


def idle(service: Service) -> bool:
    return service.active() == 0


def test_scores_and_counts_are_of_their_own_tokens(ask: Ask, greedy: list[int]) -> None:
    names = ["output_ids", "output_log_probs", "cum_log_probs", "num_input_tokens", "num_output_tokens"]
    reply = ask(names, return_log_probs=one(True, bool))
    scores = [float(score) for output in reply.outputs for score in output["output_log_probs"].reshape(-1)]
    assert len(scores) == len(greedy) and all(score <= 0 for score in scores)
    assert reply.outputs[-1]["cum_log_probs"].item() == pytest.approx(sum(scores), abs=1e-4)
    assert {output["num_input_tokens"].item() for output in reply.outputs} == {len(PROMPT)}
    assert sum(output["num_output_tokens"].item() for output in reply.outputs) == len(greedy)


def test_an_answer_may_begin_with_its_prompt(ask: Ask, greedy: list[int]) -> None:
    whole = {"streaming": one(False, bool), "exclude_input_in_output": one(False, bool)}
    assert ask(**whole).tokens() == [*PROMPT, *greedy]
    assert "exclude_input_in_output=false goes with streaming=false" in str(
        ask(exclude_input_in_output=one(False, bool)).error
    )


def test_a_bias_of_another_width_hurts_nobody(ask: Ask, greedy: list[int]) -> None:
    bias = np.zeros((1, VOCABULARY), np.float32)
    bias[0, greedy[0]] = -100
    assert ask(embedding_bias=bias).tokens()[0] != greedy[0]
    error = ask(embedding_bias=bias[:, 1:]).error
    assert error is not None and error.startswith("[invalid_request embedding_bias] embedding_bias has ")


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("beam_width", one(2)),
        ("bad_words_list", words([5, 6])),
        ("runtime_top_p_decay", one(0.5, np.float32)),
        ("return_context_logits", one(True, bool)),
    ],
)
def test_what_it_does_not_do_is_refused_by_name(ask: Ask, tensor: str, value: Any) -> None:
    assert str(ask(**{tensor: value}).error).startswith(f"[invalid_request {tensor}] {tensor} ")


def test_stop_ends_a_request(service: Service) -> None:
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 3000, end_id=one(-1)), "long", ["output_ids"])
        assert stream.next()[0] == "long"
        assert service.active() == 1
        stream.send("tensorrt_llm", request([5], 1, stop=one(True, bool)), "long", ["output_ids"])
        until(partial(idle, service))
