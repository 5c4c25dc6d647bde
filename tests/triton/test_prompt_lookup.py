"""The setting prompt_lookup: fewer steps, and the answers that there are without it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.asking import ask
from tests.support.inference import EOT, ids, infer, one, open_stream, request, words
from tests.support.serving import DEMO, Service, serve
from tests.support.tiny import until

CASES = json.loads((Path(__file__).parents[1] / "data" / "greedy.json").read_text())["cases"]
GUESSED = 5
CACHE, STREAMS, LONG = 4096, 25, 250
TEXT = PromptTokenizer(DEMO)
SCHEMA = {"type": "array", "items": {"enum": ["ab", "cd"]}, "minItems": 8, "maxItems": 8}


@pytest.fixture(scope="module")
def guessing(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With room for ten answers of LONG tokens."""
    log = tmp_path_factory.mktemp("lookup") / "log.txt"
    options = ("--arg", f"prompt_lookup={GUESSED}", "--arg", f"max_tokens_in_paged_kv_cache={CACHE}")
    with serve(home, log, *options) as service:
        service.wait_ready()
        yield service


def steps(service: Service) -> int:
    """Those that the engine has made, by its own count, once it tells no more of them than the asking makes."""
    before, now = told_steps(service), told_steps(service)
    while now - before > 2:
        before, now = now, told_steps(service)
    return now


def told_steps(service: Service) -> int:
    """It tells them as requests come, twice a second at most, and maybe a moment after this one's answer."""
    time.sleep(0.6)
    infer(service.grpc_address(), "tensorrt_llm", request([1], 1))
    text = httpx.get(f"http://127.0.0.1:{service.triton_port('metrics')}/metrics").text
    (line,) = (line for line in text.splitlines() if 'general_type="iteration_counter"' in line)
    return int(float(line.rpartition(" ")[2]))


def test_greedy_tokens_and_log_probabilities_stay(guessing: Service, service: Service) -> None:
    for case in CASES:
        inputs = request(case["input_ids"], len(case["output_ids"]), return_log_probs=one(True, bool))
        del inputs["end_id"]
        found, plain = (infer(of.grpc_address(), "tensorrt_llm", inputs) for of in (guessing, service))
        assert found.tokens() == case["output_ids"]
        mine, others = (
            np.concatenate([output["output_log_probs"].reshape(-1) for output in reply.outputs])
            for reply in (found, plain)
        )
        np.testing.assert_allclose(mine, others, atol=1e-4)


def test_steps_are_fewer_where_text_repeats(guessing: Service) -> None:
    case = CASES[-1]
    inputs = request(case["input_ids"], len(case["output_ids"]))
    del inputs["end_id"]
    before = steps(guessing)
    infer(guessing.grpc_address(), "tensorrt_llm", inputs)
    # No step has more tokens than were guessed, and one: on a busy machine fewer steps are not all that will be told.
    until(lambda: told_steps(guessing) - before >= len(case["output_ids"]) / (GUESSED + 1))
    assert steps(guessing) - before < len(case["output_ids"]) * 0.7


def test_more_than_the_cache_holds_is_answered_one_after_another(guessing: Service, service: Service) -> None:
    """The library alone fails for all once it takes the cache from one of them, as it grows."""

    def asked(case: dict[str, Any]) -> dict[str, Any]:
        inputs = request(case["input_ids"], LONG)
        del inputs["end_id"]
        return inputs

    cases = CASES[:5]
    expected = [infer(service.grpc_address(), "tensorrt_llm", asked(case)).tokens() for case in cases]
    assert STREAMS * LONG > CACHE
    with open_stream(guessing.grpc_address()) as stream:
        answers: dict[str, list[int]] = {str(i): [] for i in range(STREAMS)}
        for name in answers:
            stream.send("tensorrt_llm", asked(cases[int(name) % 5]), name)
        unfinished = set(answers)
        while unfinished:
            name, outputs, final = stream.next()
            answers[name] += outputs["output_ids"].reshape(-1).tolist() if "output_ids" in outputs else []
            unfinished -= {name} if final else set()
    assert list(answers.values()) == [expected[i % 5] for i in range(STREAMS)]


@pytest.mark.parametrize(
    ("kind", "guide", "pattern"),
    [
        ("regex", "(ab|cd){12}x", "(ab|cd){12}x"),
        ("ebnf_grammar", 'root ::= six six "x"\nsix ::= two two two two two two\ntwo ::= "ab" | "ä "', "(ab|ä ){12}x"),
        # A text: between values the engine's JSON may have spaces without end.
        ("json_schema", '{"type": "string", "pattern": "^(ab|cd){12}x$"}', '"(ab|cd){12}x"'),
    ],
    ids=["regex", "grammar", "schema"],
)
def test_guides_hold_and_so_do_several_answers(
    guessing: Service, service: Service, kind: str, guide: str, pattern: str
) -> None:
    """Of answers that must repeat themselves, so that there is something to guess."""
    inputs: dict[str, Any] = {
        **request(ids(), 100, num_return_sequences=one(2)),
        "guided_decoding_guide_type": np.array([[kind]], object),
        "guided_decoding_guide": np.array([[guide]], object),
    }
    sampled = {"temperature": one(5, np.float32), "runtime_top_p": one(1, np.float32), "seed": one(1, np.uint64)}
    found, plain, chosen = (
        infer(of.grpc_address(), "tensorrt_llm", {**inputs, **sampling})
        for of, sampling in ((guessing, {}), (service, {}), (guessing, sampled))
    )
    for i in range(2):
        assert found.tokens(i) == plain.tokens(i)
        for tokens in (found.tokens(i), chosen.tokens(i)):
            answer = TEXT.decode(tokens[:-1])
            assert tokens[-1] == EOT and re.fullmatch(pattern, answer), answer


def test_an_answer_of_a_schema_over_http(guessing: Service, service: Service) -> None:
    """Where the service follows the answer by the same grammar, and gets several tokens a step."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    body = ask("Say hello in French", temperature=0, max_tokens=200, response_format=form)
    found, plain = (
        httpx.post(f"{of.url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
        for of in (guessing, service)
    )
    assert found == plain and found["finish_reason"] == "stop"
    jsonschema.validate(json.loads(found["message"]["content"]), SCHEMA)


def test_what_it_does_not_go_with_is_refused(guessing: Service) -> None:
    for name, value in (("min_tokens", one(5)), ("bad_words_list", words([5]))):
        reply = infer(guessing.grpc_address(), "tensorrt_llm", {**request(ids()), name: value})
        assert reply.error is not None
        assert f"{name} does not go with the setting prompt_lookup on OpenVINO." in reply.error
