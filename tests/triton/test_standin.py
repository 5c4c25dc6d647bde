"""A test for each rule of the stand-in for NVIDIA's backend (tests/support/standin/rules.py), by plain tritonclient."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton.process.launch import Ports
from bento_trtllm.triton.process.repository import place_repository
from bento_trtllm.triton.wire.client import TritonClient
from tests.support.inference import Reply, ids, infer, one, open_stream, request, words
from tests.support.launcher import bound
from tests.support.processes import left_over
from tests.support.serving import MACHINES, Service
from tests.support.standin.place import ENGINES, Standin
from tests.support.tiny import until

pytestmark = pytest.mark.engines(*ENGINES)
new = pytest.mark.engines("tensorrt-1.x")

MUST = ["output_ids", "sequence_length"]
PROMPT = ids()
LEAK_LIMIT_S = 60
"""A Triton that leaks nothing ends long before, and is not made to; one that leaks does not."""
Ask = Callable[..., Reply]


@pytest.fixture(scope="module")
def standin(home: Path) -> Iterator[Standin]:
    standin = MACHINES[home]
    yield standin
    standin.wish()


@pytest.fixture
def old(engine: str) -> bool:
    return engine == "tensorrt-0.10"


@pytest.fixture
def ask(service: Service, old: bool) -> Ask:
    """Sends one request, by the names of its release, to its end."""
    address, names = service.grpc_address(), {"min_tokens": "min_length", "seed": "random_seed"} if old else {}

    def asked(outputs: list[str] | None = MUST, **inputs: Any) -> Reply:
        whole = request(PROMPT) | inputs
        named = {names.get(name, name): value for name, value in whole.items() if value is not None}
        return infer(address, "tensorrt_llm", named, outputs)

    return asked


@pytest.fixture
def greedy(ask: Ask) -> list[int]:
    """The answer, without the token that ends it."""
    return ask().tokens()


def test_outputs_by_name(ask: Ask, service: Service) -> None:
    for missing in MUST:
        goal = counter(service) + 10
        reply = ask([name for name in (*MUST, "output_log_probs") if name != missing])
        assert reply.outputs == []
        assert f"Error encountered while populating response: {missing} tensor must be present" in str(reply.error)
        until(partial(reached, service, goal))  # for nobody
    assert ask(None).error is None  # no names at all are all of them


async def test_the_client_needs_both(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """So that this service fails where its client would not name one."""
    client = TritonClient(service.grpc_address(), outputs=["output_ids"])
    try:
        async with client.stream(TokenRequest(PROMPT, 3), Deadlines(30, 30, 30)) as batches:
            with pytest.raises(EngineUnavailable):
                [batch async for batch in batches]
    finally:
        await client.close()
    assert "sequence_length tensor must be present in list of output tensors" in caplog.text


async def test_the_client_reads_by_name(service: Service, standin: Standin, greedy: list[int]) -> None:
    """Whatever the order in which outputs come; log probabilities are those of a batch's own tokens."""
    client = TritonClient(service.grpc_address(), outputs=MUST)
    seen = []
    try:
        for wishes in ({}, {"reversed": True}):
            standin.wish(**wishes)
            async with client.stream(TokenRequest(PROMPT, 9, log_probs=True), Deadlines(30, 30, 30)) as batches:
                tokens = [batch async for batch in batches]
            seen.append(([i for batch in tokens for i in batch.ids], [s for batch in tokens for s in batch.log_probs]))
    finally:
        standin.wish()
        await client.close()
    assert seen[0] == seen[1] and seen[0][0] == greedy[:9] and len(seen[0][1]) == 9


def test_scores_unasked(ask: Ask, old: bool) -> None:
    reply = ask([*MUST, "output_log_probs", "cum_log_probs"], request_output_len=one(2))
    for output in reply.outputs:
        assert output.keys() - MUST == ({"output_log_probs", "cum_log_probs"} if old else set())
        if old:
            assert output["output_log_probs"].shape == (1, 1, len(PROMPT)) and not output["output_log_probs"].any()


@new
def test_extras_unasked(ask: Ask) -> None:
    extras = ["batch_index", "sequence_index", "num_input_tokens", "num_output_tokens"]
    reply = ask([*MUST, *extras], request_output_len=one(2))
    assert all(output.keys() == set(MUST) for output in reply.outputs)
    counted = ask(
        [*MUST, *extras],
        request_output_len=one(2),
        return_num_input_tokens=one(True, bool),
        return_num_output_tokens=one(True, bool),
    )
    for output in counted.outputs:
        assert output.keys() == {*MUST, "num_input_tokens", "num_output_tokens"}
        assert output["num_input_tokens"].tolist() == [[len(PROMPT)]] and output["num_output_tokens"].tolist() == [[1]]


def test_end_id_left_out(ask: Ask, greedy: list[int]) -> None:
    end = greedy[3]
    first = greedy.index(end)
    reply = ask(end_id=one(end))
    assert reply.tokens() == greedy[:first]
    assert [output["output_ids"].shape for output in reply.outputs] == [(1, 1, 1)] * first + [(1, 1, 0)]
    assert reply.outputs[-1]["sequence_length"].tolist() == [[0]]


def test_stop_word_kept(ask: Ask, greedy: list[int]) -> None:
    reply = ask(stop_words_list=words(greedy[2:4]), end_id=None)
    assert reply.tokens() == greedy[:4]
    assert reply.outputs[-1]["output_ids"].shape == (1, 1, 1)
    last = ask(request_output_len=one(5))
    assert last.tokens() == greedy[:5] and last.outputs[-1]["output_ids"].shape == (1, 1, 1)


def test_new_tokens_only(ask: Ask, greedy: list[int]) -> None:
    streamed = ask(request_output_len=one(5))
    assert [output["output_ids"].reshape(-1).tolist() for output in streamed.outputs] == [[i] for i in greedy[:5]]
    assert all(output["sequence_length"].tolist() == [[1]] for output in streamed.outputs)
    (whole,) = ask(request_output_len=one(5), streaming=one(False, bool)).outputs
    assert whole["output_ids"].tolist() == [[greedy[:5]]] and whole["sequence_length"].tolist() == [[5]]


def test_scores_so_far(ask: Ask, greedy: list[int]) -> None:
    sampled = {"runtime_top_p": one(1.0, np.float32), "temperature": one(2.0, np.float32)}
    end = ask([*MUST, "output_log_probs"], return_log_probs=one(True, bool), request_output_len=one(4), **sampled)
    scores = [output["output_log_probs"].reshape(-1).tolist() for output in end.outputs]
    assert [len(each) for each in scores] == [1, 2, 3, 4]
    assert all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(scores))
    assert all(score < 0 for score in scores[-1])


def test_min_tokens(ask: Ask, greedy: list[int]) -> None:
    until_end = greedy.index(greedy[3])
    kept = ask(end_id=one(greedy[3]), min_tokens=one(until_end + 5)).tokens()
    assert len(kept) >= until_end + 5 and greedy[3] not in kept
    assert ask(stop_words_list=words([greedy[3]]), min_tokens=one(50)).tokens() == greedy[: until_end + 1]


def test_greedy(ask: Ask, greedy: list[int]) -> None:
    assert ask(temperature=one(5.0, np.float32)).tokens() == greedy
    both = {"temperature": one(5.0, np.float32), "runtime_top_k": one(50)}
    assert ask(**both).tokens() != greedy


def test_fields(ask: Ask, standin: Standin, tmp_path: Path, old: bool) -> None:
    seen = tmp_path / "seen.jsonl"
    standin.wish(record=str(seen))
    bias = np.zeros((1, 2528), np.float32)
    bias[0, 7] = -100.0
    guide: dict[str, Any] = {
        "guided_decoding_guide_type": np.array([["json_schema"]], object),
        "guided_decoding_guide": np.array([['{"type": "string"}']], object),
    }
    numbers = {
        "runtime_top_k": one(3),
        "runtime_top_p": one(0.5, np.float32),
        "temperature": one(0.25, np.float32),
        "repetition_penalty": one(1.5, np.float32),
        "presence_penalty": one(-0.5, np.float32),
        "frequency_penalty": one(0.75, np.float32),
        "seed": one(2**64 - 1, np.uint64),
        "min_tokens": one(1),
    }
    others = {} if old else guide
    reply = ask(
        request_output_len=one(2), pad_id=one(9), bad_words_list=words([5], [6, 7]), embedding_bias=bias, **numbers
    )
    assert reply.error is None
    assert ask(request_output_len=one(2), stop_words_list=words([8, 9]), **others).error is None
    first, second = (json.loads(line) for line in seen.read_text().splitlines())
    standin.wish()
    assert {name: first["sampling"][name] for name in numbers} == {
        k: v.reshape(-1)[0].item() for k, v in numbers.items()
    }
    assert first["embedding_bias"] == bias[0].tolist() and first["bad_words"] == [[5], [6, 7]]
    assert (first["pad_id"], first["max_tokens"], first["streaming"], first["input_ids"]) == (9, 2, True, PROMPT)
    assert second["stop_words"] == [[8, 9]] and second["sampling"]["seed"] is None
    assert second["guide"] == (None if old else ["json_schema", '{"type": "string"}'])


def test_one_value(ask: Ask) -> None:
    two = np.array([[1.0, 1.0]], np.float32)
    # Triton itself asks for the shape that the configuration says.
    assert "temperature" in str(ask(temperature=two).error)


def test_words(ask: Ask) -> None:
    table = words([5], [6])
    table[0, 1] = [2, 1]
    error = str(ask(stop_words_list=table).error)
    assert error.startswith(
        "[TensorRT-LLM][ERROR] Assertion failed: Sparse list must not have non-increasing offsets: 5 6"
    )
    table[0, 1] = [1, 3]
    assert "out-of-bound offsets" in str(ask(bad_words_list=table).error)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("temperature", one(-1, np.float32), "temperature.value() >= 0.f"),
        ("runtime_top_k", one(-1), "topK.value() >= 0"),
        ("runtime_top_p", one(1.5, np.float32), "topP.value() <= 1.f"),
        ("repetition_penalty", one(0, np.float32), "repetitionpenalty.value() > 0.f"),
        ("request_output_len", one(0), "mMaxNewTokens > 0"),
    ],
)
def test_bounds(ask: Ask, field: str, value: Any, text: str) -> None:
    first, *frames = str(ask(**{field: value}).error).splitlines()
    assert first.startswith(f"[TensorRT-LLM][ERROR] Assertion failed: {text} (/") and first.endswith(")")
    assert len(frames) > 2 and frames[0].startswith("1 ") and "0x" in frames[0]


def test_fetched(ask: Ask) -> None:
    failed = "Executor failed process requestId "
    why = " due to the following error: Encountered an error when fetching new request: "
    wrong_end = str(ask(end_id=one(100_000)).error)
    assert (
        wrong_end.startswith(failed)
        and f"{why}[TensorRT-LLM][ERROR] Assertion failed: EndId (100000) is not" in wrong_end
    )
    long = np.array([[1] * 4096], np.int32)
    too_long = str(ask(input_ids=long).error)
    assert f"{why}Prompt length (4096) exceeds maximum input length (4095)." in too_long


def test_clipped(ask: Ask) -> None:
    reply = ask(input_ids=np.array([[1] * 4090], np.int32), request_output_len=one(100), end_id=None)
    assert reply.error is None and len(reply.tokens()) == 6


def test_step_fails_for_all(service: Service, ask: Ask, standin: Standin) -> None:
    standin.wish(pause_s=0.02)
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 500, end_id=one(-1)), "long", MUST)
        assert stream.next()[1]["output_ids"].size == 1
        reply = ask(embedding_bias=np.zeros((1, 5), np.float32))
        error = (
            "Encountered an error in forwardAsync function: [TensorRT-LLM][ERROR] Assertion failed: The embedding bias"
        )
        assert error in str(reply.error)
        with pytest.raises(Exception, match="The embedding bias shape is not as expected"):
            while True:
                stream.next()
    assert ask(request_output_len=one(2)).error is None
    for name, text in {"out_of_memory": "out of memory", "illegal_memory_access": "an illegal memory access"}.items():
        standin.wish(fail={"text": name, "after": 3, "times": 2})
        for _ in range(2):
            reply = ask()
            assert (
                len(reply.tokens()) == 3
                and f": {text}" in str(reply.error)
                and "CUDA runtime error" in str(reply.error)
            )
        assert ask().error is None
    standin.wish()


@new
def test_unknown_guide(ask: Ask, greedy: list[int]) -> None:
    kind = np.array([["structural_tag"]], object)
    assert ask(guided_decoding_guide_type=kind, guided_decoding_guide=np.array([["{}"]], object)).tokens() == greedy
    known = np.array([["json"]], object)
    assert ask(guided_decoding_guide_type=known).tokens() != greedy


@new
def test_guide_without_text(ask: Ask) -> None:
    reply = ask(guided_decoding_guide_type=np.array([["regex"]], object))
    assert "Assertion failed: The guide string must be provided unless using GuideType::kJSON." in str(reply.error)


def test_batch(ask: Ask, old: bool, greedy: list[int]) -> None:
    other = ids("Say hello in Korean")
    width = max(len(PROMPT), len(other))
    both = np.array([prompt + [0] * (width - len(prompt)) for prompt in (PROMPT, other)], np.int32)
    lengths = np.array([[len(PROMPT)], [len(other)]], np.int32)
    two = {name: np.repeat(value, 2, 0) for name, value in request(PROMPT).items()}
    two |= {"input_ids": both, "input_lengths": lengths}
    reply = ask(None if old else [*MUST, "batch_index"], **two)
    if old:
        assert "Invalid size for tensor" in str(reply.error)
        return
    assert reply.error is None
    for index, answer in enumerate([greedy, ask(input_ids=np.array([other], np.int32)).tokens()]):
        mine = [output for output in reply.outputs if output["batch_index"].tolist() == [[index]]]
        assert [i for output in mine for i in output["output_ids"].reshape(-1).tolist()] == answer


@new
def test_sequences(ask: Ask, greedy: list[int]) -> None:
    reply = ask([*MUST, "sequence_index"], num_return_sequences=one(2))
    assert reply.error is None
    assert reply.tokens(0) == reply.tokens(1) == greedy


def test_prompt_in_output(ask: Ask, old: bool, greedy: list[int]) -> None:
    if old:
        assert "exclude_input_in_output" in str(ask(exclude_input_in_output=one(False, bool)).error)  # no input there
        return
    whole = ask(exclude_input_in_output=one(False, bool), streaming=one(False, bool), request_output_len=one(3))
    assert whole.tokens() == PROMPT + greedy[:3]
    assert ask(exclude_input_in_output=one(False, bool), request_output_len=one(3)).tokens() == greedy[:3]


def test_stop(ask: Ask, service: Service, standin: Standin) -> None:
    standin.wish(hang=True)
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 5), "asked", MUST)
        for _ in range(3):
            stream.send("tensorrt_llm", request([1], 1, stop=one(True, bool)), "none", MUST)
            assert stream.next() == ("none", {}, True)
        standin.wish()
        assert stream.next()[0] == "asked"
    assert "Trying to stop a request but request ID is not provided" in str(anonymous_stop(service))


def anonymous_stop(service: Service) -> str:
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request([1], 1, stop=one(True, bool)), "", MUST)
        with pytest.raises(Exception) as caught:
            stream.next()
        return str(caught.value)


def test_stopped(service: Service, standin: Standin) -> None:
    standin.wish(pause_s=0.02)
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 1000, end_id=one(-1)), "long", MUST)
        stream.next()
        stream.send("tensorrt_llm", request([1], 1, stop=one(True, bool)), "long", MUST)
        seen = [stream.next()]
        while len(seen) < 100 and [final for _, _, final in seen].count(True) < 2:
            seen.append(stream.next())
    standin.wish()
    (answer, last) = (found for _, found, final in seen if final)
    assert answer == {} and last["output_ids"].shape == (1, 1, 0) and last["sequence_length"].tolist() == [[0]]
    until(lambda: service.active() == 0)


def test_hang(service: Service, standin: Standin, ask: Ask) -> None:
    standin.wish(pause_s=0.02)
    with open_stream(service.grpc_address()) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 1000, end_id=one(-1)), "long", MUST)
        until(lambda: service.active() == 1)
        standin.wish(hang=True)
        still = settled(service)
        assert service.active() == 1
    # The client has left: it is noticed when the step ends, and no sooner.
    time.sleep(0.5)
    assert counter(service) == still and service.active() == 1
    standin.wish()
    until(lambda: service.active() == 0)
    assert ask(request_output_len=one(2)).error is None and counter(service) > still


def metrics(service: Service) -> dict[str, list[Any]]:
    text = httpx.get(f"{service.url}/metrics").text
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def counter(service: Service) -> float:
    (value,) = (
        sample.value
        for sample in metrics(service)["nv_trt_llm_general_metrics"]
        if sample.labels["general_type"] == "iteration_counter"
    )
    return float(value)


def settled(service: Service) -> float:
    """The counter, once it has stayed as it is for a second: a step takes 20 ms, and it is told ten times a second."""
    seen: list[float] = []

    def stays() -> bool:
        seen.append(counter(service))
        time.sleep(0.25)
        return len(seen) > 4 and len(set(seen[-5:])) == 1

    until(stays)
    return seen[-1]


def reached(service: Service, goal: float) -> bool:
    return counter(service) >= goal


def test_metrics(service: Service, old: bool) -> None:
    found = metrics(service)
    families = {
        "nv_trt_llm_request_metrics": ("request_type", "active max scheduled context", " waiting"),
        "nv_trt_llm_runtime_memory_metrics": ("memory_type", "cpu gpu pinned", ""),
        "nv_trt_llm_kv_cache_block_metrics": ("kv_cache_block_type", "max free used tokens_per", " reused fraction"),
        "nv_trt_llm_inflight_batcher_metrics": (
            "inflight_batcher_specific_metric",
            "total_context_tokens generation_requests micro_batch_id paused_requests",
            "",
        ),
        "nv_trt_llm_general_metrics": ("general_type", "timestamp iteration_counter", ""),
        "nv_trt_llm_disaggregated_serving_metrics": (
            "disaggregated_serving_type", "", "kv_cache_transfer_ms request_count"
        ),
    }  # fmt: skip
    for family, (label, values, added) in families.items():
        expected = set((values if old else values + added).split())
        assert {sample.labels[label] for sample in found.get(family, ())} == expected, family
        for sample in found.get(family, ()):
            assert sample.labels["model"] == "tensorrt_llm" and sample.labels["version"] == "1"


class Bare:
    """A tritonserver with the stand-in's repository and nothing around it."""

    def __init__(self, standin: Standin, home: Path, folder: Path, exit_s: int, **parameters: str | None) -> None:
        packed = home / "models/demo-llama/test"
        given = {name: value for name, value in parameters.items() if value is not None}
        repository = place_repository(packed, folder, given)
        config = repository / "tensorrt_llm/config.pbtxt"
        for name in parameters.keys() - given.keys():
            text = config.read_text()
            assert f'"{name}"' in text
            config.write_text(text.replace(f'key: "{name}"', f'key: "no_{name}"'))
        ports = Ports.free()
        self.address, self.metrics = f"127.0.0.1:{ports.grpc}", ports.metrics
        self.log = folder / "log.txt"
        self.marker = f"bare-{ports.grpc}-"
        """In its processes' environment, and what the names of its regions begin with."""
        argv = [str(standin.server), f"--model-repository={repository}", "--allow-http=false"]
        argv += [f"--exit-timeout-secs={exit_s}"]
        argv += [f"--grpc-port={ports.grpc}", f"--metrics-port={ports.metrics}", "--disable-auto-complete-config"]
        argv += ["--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1", f"--backend-directory={standin.backends}"]
        argv += [f"--backend-config=python,shm-region-prefix-name={self.marker}"]
        environment = {**os.environ, **standin.environment, "TEST_MARKER": self.marker}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(bound(argv), env=environment, stdout=log, stderr=subprocess.STDOUT)

    def ready(self) -> None:
        until(lambda: self.process.poll() is not None or "Started GRPCInferenceService" in self.log.read_text(), 60)
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        assert self.regions(), "its shared memory has another name, and would be left"

    def regions(self) -> list[Path]:
        """What it has in /dev/shm, and leaves there if it does not end by itself."""
        return [*Path("/dev/shm").glob(f"{self.marker}*")]

    def active(self) -> int:
        text = httpx.get(f"http://127.0.0.1:{self.metrics}/metrics").text
        families = {family.name: family.samples for family in text_string_to_metric_families(text)}
        samples = families.get("nv_trt_llm_request_metrics", ())
        return sum(int(sample.value) for sample in samples if sample.labels["request_type"] == "active")

    def stop(self) -> str:
        """What it wrote, to its end."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LEAK_LIMIT_S)
        return self.log.read_text()


@pytest.fixture
def bare(standin: Standin, home: Path, tmp_path: Path) -> Iterator[Callable[..., Bare]]:
    started: list[Bare] = []

    def start(exit_s: int = LEAK_LIMIT_S, **parameters: str | None) -> Bare:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(server := Bare(standin, home, folder, exit_s, **parameters))
        return server

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
        # One that has ended by its exit timeout does not wait for its Python models, and one of them may stay for ever.
        for process in left_over(server.marker):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for region in server.regions():
            region.unlink()


def leave(server: Bare) -> float:
    """Seconds from when a client leaves to when its request ends in the engine."""
    with open_stream(server.address) as stream:
        stream.send("tensorrt_llm", request(PROMPT, 3000, end_id=one(-1)), "long", MUST)
        stream.next()
        until(lambda: server.active() == 1)
    left = time.monotonic()
    until(lambda: server.active() == 0, LEAK_LIMIT_S)
    return time.monotonic() - left


@new
def test_cancel(bare: Callable[..., Bare]) -> None:
    server = bare(cancellation_check_period_ms="3000")
    server.ready()
    # Until the next look, nobody knows; most clients leave long before it.
    assert any(leave(server) > 1 for _ in range(5))
    server.stop()


@new
def test_leak(bare: Callable[..., Bare]) -> None:
    silent, asked = bare(), bare(exit_s=3)
    for server in (silent, asked):
        server.ready()
        assert infer(server.address, "tensorrt_llm", request(PROMPT, 2), MUST).error is None
    infer(asked.address, "tensorrt_llm", request([1], 1, stop=one(True, bool)), MUST)
    assert "Exit timeout expired" not in silent.stop()
    assert "Exit timeout expired" in asked.stop()


@new
def test_scores_normalised(bare: Callable[..., Bare], ask: Ask) -> None:
    scored = request(PROMPT, 3, return_log_probs=one(True, bool))
    server = bare(normalize_log_probs=None)
    server.ready()
    reply = infer(server.address, "tensorrt_llm", scored, [*MUST, "output_log_probs"])
    assert reply.outputs[-1]["output_log_probs"].tolist() == [[[0.0, 0.0, 0.0]]]
    server.stop()
    reply = ask([*MUST, "output_log_probs"], request_output_len=one(3), return_log_probs=one(True, bool))
    assert (reply.outputs[-1]["output_log_probs"] < 0).all()


@new
@pytest.mark.parametrize("name", ["tokenizer_dir", "xgrammar_tokenizer_info_path", "guided_decoding_backend"])
def test_guide_parameters(bare: Callable[..., Bare], name: str) -> None:
    server = bare(**{name: None})
    server.process.wait(60)
    assert name in server.log.read_text() and "failed to load 'tensorrt_llm'" in server.log.read_text()
