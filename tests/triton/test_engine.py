"""The Triton model `tensorrt_llm` on OpenVINO, tensor by tensor, over plain tritonclient."""

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.inference import EOT, Reply, Stream, ids, infer, one, open_stream, request, words
from tests.support.serving import DEMO, Service

TOKENIZER = PromptTokenizer(DEMO)
FIXTURE = json.loads((Path(__file__).parents[1] / "data" / "greedy.json").read_text())


@pytest.fixture(scope="module")
def address(service: Service) -> str:
    return service.grpc_address()


@pytest.fixture(scope="module")
def greedy(address: str) -> list[int]:
    """The answer to the default prompt of these tests."""
    return generate(address).tokens()


def generate(address: str, **inputs: Any) -> Reply:
    reply = infer(address, "tensorrt_llm", request(ids(), **inputs))
    assert reply.error is None, reply.error
    return reply


def test_greedy_tokens_equal_transformers(address: str) -> None:
    assert len(FIXTURE["cases"]) >= 5
    for case in FIXTURE["cases"]:
        inputs = request(case["input_ids"], len(case["output_ids"]))
        del inputs["end_id"]
        assert infer(address, "tensorrt_llm", inputs).tokens() == case["output_ids"]


def test_end_id_ends_the_sequence_and_is_its_last_token(address: str, greedy: list[int]) -> None:
    assert greedy[-1] == EOT
    assert EOT not in greedy[:-1]
    other = greedy[3]
    assert generate(address, end_id=one(other)).tokens() == greedy[: greedy.index(other) + 1]


def test_without_end_id_only_the_length_ends_it(address: str) -> None:
    inputs = request(ids(), 60)
    del inputs["end_id"]
    assert len(infer(address, "tensorrt_llm", inputs).tokens()) == 60


def test_responses_stream_and_count(address: str, greedy: list[int]) -> None:
    reply = generate(address)
    assert len(reply.outputs) > 3
    for output in reply.outputs:
        assert output["output_ids"].dtype == np.int32
        assert output["output_ids"].shape[:2] == (1, 1)
        assert output["sequence_length"].reshape(-1)[0] == output["output_ids"].shape[2]
        assert output["num_input_tokens"].reshape(-1)[0] == len(ids())


def test_without_streaming_there_is_one_response(address: str, greedy: list[int]) -> None:
    reply = generate(address, streaming=one(False, bool))
    assert len(reply.outputs) == 1
    assert reply.tokens() == greedy
    echoed = generate(address, streaming=one(False, bool), exclude_input_in_output=one(False, bool))
    assert echoed.tokens() == ids() + greedy


def test_stop_words_of_one_and_of_several_tokens(address: str, greedy: list[int]) -> None:
    single = generate(address, stop_words_list=words([greedy[4]])).tokens()
    assert single == greedy[: greedy.index(greedy[4]) + 1]
    several = generate(address, stop_words_list=words([greedy[0], 5], greedy[2:5])).tokens()
    assert several == greedy[:5]


def test_bad_words_of_one_and_of_several_tokens(address: str, greedy: list[int]) -> None:
    single = generate(address, bad_words_list=words([greedy[0]], [greedy[5]])).tokens()
    assert single
    assert greedy[0] not in single
    assert greedy[5] not in single
    several = generate(address, bad_words_list=words(greedy[2:4])).tokens()
    assert several[:3] == greedy[:3]
    assert several[3] != greedy[3]
    assert tuple(greedy[2:4]) not in list(pairwise(several))


def test_bad_words_leave_the_end_and_the_length_alone(address: str, greedy: list[int]) -> None:
    unused = [i for i in range(200) if i not in greedy][:3]
    assert generate(address, bad_words_list=words(*[[i] for i in unused])).tokens() == greedy
    assert generate(address, bad_words_list=words([unused[0]]), request_output_len=one(4)).tokens() == greedy[:4]
    longer = generate(address, bad_words_list=words([unused[0]]), min_tokens=one(len(greedy) + 5)).tokens()
    assert len(longer) >= len(greedy) + 5


def test_min_tokens_puts_the_end_off(address: str, greedy: list[int]) -> None:
    longer = generate(address, min_tokens=one(len(greedy) + 10)).tokens()
    assert longer[: len(greedy) - 1] == greedy[:-1]
    assert len(longer) >= len(greedy) + 10


def test_temperature_zero_or_no_top_k_is_greedy(address: str, greedy: list[int]) -> None:
    assert generate(address, temperature=one(0, np.float32), runtime_top_k=one(50)).tokens() == greedy
    assert generate(address, temperature=one(2, np.float32)).tokens() == greedy
    assert generate(address, temperature=one(2, np.float32), runtime_top_k=one(1)).tokens() == greedy
    for least in (1e-40, 1e-38, 9e-6):
        sampled = {"temperature": one(least, np.float32), "runtime_top_p": one(1, np.float32)}
        assert generate(address, **sampled).tokens() == greedy, least


def test_seed_decides_what_is_sampled(address: str) -> None:
    sampled = {"temperature": one(50, np.float32), "runtime_top_p": one(1, np.float32)}

    def sample(seed: int) -> list[int]:
        return generate(address, seed=one(seed, np.uint64), **sampled).tokens()

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(2**64 - 1) == sample(2**64 - 1)
    top = {**sampled, "runtime_top_k": one(2), "seed": one(3, np.uint64)}
    del top["runtime_top_p"]
    assert generate(address, **top).tokens() != sample(3)


def test_min_p_of_one_leaves_the_likeliest_token(address: str, greedy: list[int]) -> None:
    sampled = {"temperature": one(50, np.float32), "runtime_top_p": one(1, np.float32)}
    for seed in range(4):
        inputs = {**sampled, "seed": one(seed, np.uint64)}
        assert generate(address, **inputs, runtime_min_p=one(1, np.float32)).tokens() == greedy, seed
        assert generate(address, **inputs).tokens() != greedy, seed


def test_penalties_change_the_text(address: str) -> None:
    """Past its end the demo model has no text to be sure of."""
    beyond = {"request_output_len": one(400), "min_tokens": one(400)}
    plain = generate(address, **beyond).tokens()
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert generate(address, **beyond, **{name: one(2.0, np.float32)}).tokens() != plain, name


def test_log_probs_come_with_each_token(address: str, greedy: list[int]) -> None:
    reply = generate(address, return_log_probs=one(True, bool))
    scores = [float(s) for output in reply.outputs for s in output["output_log_probs"].reshape(-1)]
    assert len(scores) == len(greedy)
    assert all(score <= 0 for score in scores)
    assert sum(scores) == pytest.approx(float(reply.outputs[-1]["cum_log_probs"].reshape(-1)[0]), abs=1e-3)


def test_several_sequences_of_one_prompt(address: str) -> None:
    sampled = {"temperature": one(50, np.float32), "runtime_top_p": one(1, np.float32), "seed": one(9, np.uint64)}
    reply = generate(address, num_return_sequences=one(3), **sampled)
    texts = [reply.tokens(sequence) for sequence in range(3)]
    assert all(texts)
    assert len(set(map(tuple, texts))) == 3
    assert texts[0] == generate(address, **sampled).tokens()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_width", one(4)),
        ("len_penalty", one(2, np.float32)),
        ("early_stopping", one(True, bool)),
        ("embedding_bias", np.zeros((1, 10), dtype=np.float32)),
        ("return_context_logits", one(True, bool)),
        ("return_generation_logits", one(True, bool)),
        ("temperature", one(np.nan, np.float32)),
        ("temperature", one(-1, np.float32)),
        ("runtime_top_p", one(1.5, np.float32)),
        ("runtime_top_k", one(-1)),
        ("presence_penalty", one(3, np.float32)),
        ("repetition_penalty", one(0, np.float32)),
        ("request_output_len", one(0)),
        ("num_return_sequences", one(0)),
        ("input_lengths", one(1)),
        ("input_ids", np.array([[99999]], dtype=np.int32)),
        ("input_ids", np.array([[-1]], dtype=np.int32)),
        ("input_ids", np.zeros((1, 0), dtype=np.int32)),
        ("stop_words_list", np.array([[[1, 2], [5, 9]]], dtype=np.int32)),
        ("bad_words_list", words([99999])),
        ("lora_task_id", one(1, np.uint64)),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(address: str, name: str, value: Any) -> None:
    inputs = request(ids())
    if name == "input_ids":
        inputs["input_lengths"] = one(value.shape[1])
    reply = infer(address, "tensorrt_llm", {**inputs, name: value})
    assert reply.error is not None
    assert name in reply.error
    assert "Traceback" not in reply.error
    assert not reply.outputs


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (
            {"bad_words_list": words([5]), name: one(0.5, np.float32)},
            "bad_words_list does not go with presence_penalty or frequency_penalty on OpenVINO.",
        )
        for name in ("presence_penalty", "frequency_penalty")
    ]
    + [
        (
            {name: one(1), "num_return_sequences": one(2)},
            f"{name} does not go with num_return_sequences on OpenVINO: send one a request.",
        )
        for name in ("num_top_log_probs", "num_prompt_log_probs")
    ],
)
def test_what_does_not_go_together_is_refused(address: str, inputs: dict[str, Any], told: str) -> None:
    reply = infer(address, "tensorrt_llm", request(ids(), **inputs))
    assert reply.error is not None and told in reply.error
    assert not reply.outputs


def test_values_that_ask_for_nothing_are_accepted(address: str, greedy: list[int]) -> None:
    neutral = {"beam_width": one(1), "len_penalty": one(1, np.float32), "pad_id": one(EOT), "min_tokens": one(0)}
    assert generate(address, **neutral).tokens() == greedy


def test_prompt_over_the_context_is_refused_with_both_lengths(address: str) -> None:
    reply = infer(address, "tensorrt_llm", request([5] * 5000))
    assert reply.error is not None
    assert "5000" in reply.error
    assert "4096" in reply.error


def test_stop_ends_the_request_of_that_id(address: str) -> None:
    with open_stream(address) as stream:
        stream.send("tensorrt_llm", request(ids(), 3900, min_tokens=one(3900)), "long")
        stream.next()
        stream.send("tensorrt_llm", request(ids(), 1, stop=one(True, bool)), "long")
        finals, made, failed = 0, 0, False
        while finals < 2 and not failed:
            try:
                _, outputs, final = stream.next()
                finals += final
                made += outputs["output_ids"].size if outputs else 0
            except Exception as error:
                failed = "cancelled" in str(error)
                assert failed, error
        assert made < 3000


def test_one_message_ends_several_requests(address: str) -> None:
    """Those that run, and one that comes only after it."""
    with open_stream(address) as stream:
        for name in ("one", "two"):
            stream.send("tensorrt_llm", request(ids(), 3900, min_tokens=one(3900)), name)
            stream.next()
        stream.send("tensorrt_llm", request([5], 1, stop_ids=np.array([["one", "two", "late"]], np.object_)), "stop")
        assert next_ends(stream) == ["cancelled", "cancelled"]
        stream.send("tensorrt_llm", request(ids(), 3900, min_tokens=one(3900)), "late")
        assert next_ends(stream) == ["cancelled"]
    assert len(generate(address).tokens()) > 5


def next_ends(stream: Stream) -> list[str]:
    """How the requests of a stream end, until none is open: cancelled, or whole. Not those that say who is to end."""
    ends = []
    while stream.open:
        try:
            name, _, final = stream.next()
            ends += ["whole"] * (final and name != "stop")
        except grpcclient.InferenceServerException as error:
            assert "[cancelled]" in str(error)
            ends.append("cancelled")
    return ends


def test_a_request_is_ended_while_its_guide_is_compiled(address: str) -> None:
    """Or before, or just after: whoever has it hears of it."""
    for number in range(20):
        grammar = f'root ::= "{number}" on\non ::= [a-z] on'  # without an end
        guide = {"guided_decoding_guide_type": "ebnf_grammar", "guided_decoding_guide": grammar}
        texts = {name: np.array([[value]], np.object_) for name, value in guide.items()}
        with open_stream(address) as stream:
            stream.send("tensorrt_llm", request(ids(), 3900, **texts), f"guided {number}")
            time.sleep(number / 10_000)
            stream.send("tensorrt_llm", request([5], 1, stop_ids=np.array([[f"guided {number}"]], np.object_)), "stop")
            assert next_ends(stream) == ["cancelled"]


def test_a_slow_reader_does_not_hold_up_another(address: str) -> None:
    """One stream is never read while another runs to its end; what piled up for it is whole afterwards."""
    long = request(ids("Tell me a long story"), 400, min_tokens=one(400))
    with open_stream(address) as slow:
        slow.send("tensorrt_llm", long, "slow")
        assert len(generate(address).tokens()) > 5
        tokens: list[int] = []
        final = False
        while not final:
            _, outputs, final = slow.next()
            tokens += outputs["output_ids"].reshape(-1).tolist() if outputs else []
    assert len(tokens) == 400


def text(value: str) -> np.ndarray[Any, Any]:
    return np.array([[value.encode()]], dtype=np.object_)


def guided(kind: str, guide: str = "", **inputs: Any) -> dict[str, Any]:
    tensors = {"guided_decoding_guide_type": text(kind), **inputs}
    return tensors | ({"guided_decoding_guide": text(guide)} if guide else {})


@pytest.mark.parametrize(
    ("kind", "guide", "pattern"),
    [
        ("regex", "[0-9]{3}-[a-c]{2}", r"[0-9]{3}-[a-c]{2}"),
        ("ebnf_grammar", 'root ::= answer "!"\nanswer ::= "yes" | "non, ä"', "(yes|non, ä)!"),
        ("json_schema", '{"type": "integer", "minimum": 0, "maximum": 9}', r"\s*[0-9]\s*"),
        ("json_schema", '{"enum": ["a", "b"]}', r"\s*\"[ab]\"\s*"),
        ("json", "", r"(?s).+"),
    ],
)
def test_guides(address: str, kind: str, guide: str, pattern: str) -> None:
    for sampling in ({}, {"temperature": one(2, np.float32), "runtime_top_p": one(1, np.float32)}):
        for seed in range(3):
            inputs = guided(kind, guide, seed=one(seed, np.uint64), **sampling)
            tokens = generate(address, **inputs).tokens()
            answer = TOKENIZER.decode(tokens)
            if kind != "json" or tokens[-1] == EOT:
                assert tokens[-1] == EOT
                assert re.fullmatch(pattern, answer), answer
            if kind == "json" and tokens[-1] == EOT:
                json.loads(answer)


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        (guided("xml", "x"), "guided_decoding_guide_type"),
        (guided("structural_tag", "{}"), "guided_decoding_guide_type"),
        (guided("regex"), "guided_decoding_guide"),
        (guided("regex", "(["), "guided_decoding_guide"),
        (guided("json_schema", "{"), "guided_decoding_guide"),
        (guided("json_schema", "[]"), "guided_decoding_guide"),
        (guided("ebnf_grammar", 'start ::= "a"'), "root"),
        (guided("ebnf_grammar", 'root ::= "a" foo'), "foo"),
        ({"guided_decoding_guide": text("x")}, "guided_decoding_guide_type"),
        (guided("json", bad_words_list=words([5])), "bad_words_list"),
        (guided("json", min_tokens=one(5)), "min_tokens"),
        (guided("json", end_id=one(-1)), "end_id"),
    ],
)
def test_wrong_guides_are_refused_and_nothing_else_suffers(address: str, inputs: dict[str, Any], named: str) -> None:
    with open_stream(address) as other:
        other.send("tensorrt_llm", request(ids(), 100, min_tokens=one(100)), "other")
        reply = infer(address, "tensorrt_llm", request(ids(), **inputs))
        assert reply.error is not None
        assert named in reply.error
        count, final = 0, False
        while not final:
            _, outputs, final = other.next()
            count += outputs["output_ids"].size if outputs else 0
        assert count == 100
