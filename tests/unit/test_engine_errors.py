"""What an engine's words mean. They are upstream's, as tests/support/standin writes them."""

import pytest

from bento_trtllm.generation.errors import EngineUnavailable, RequestRefused
from bento_trtllm.triton.wire import engine_errors
from bento_trtllm.triton.wire.failures import Failures
from bento_trtllm.triton_models.shared.faults import FAILED, INVALID_REQUEST, UNAVAILABLE, Fault

TRACE = """ (/workspace/tensorrt_llm/cpp/tensorrt_llm/batch_manager/llmRequest.cpp:262)
1       0x7f3a68154000 tensorrt_llm::common::throwRuntimeError(char const*, int, char const*) + 82
2       0x7f3a68155000 /opt/tritonserver/backends/tensorrtllm/libtriton_tensorrtllm.so(+0x1b0f3) [0x7f3a681540f3]
[truncated]"""
FETCHED = (
    "Executor failed process requestId 7 due to the following error: Encountered an error when fetching new request: "
)
STEP = "Executor failed process requestId 7 due to the following error: Encountered an error in forwardAsync function: "
TOO_LONG = "Prompt length (600) exceeds maximum input length (512). Set log level to info and check TRTGptModel logs"
NO_MEMORY = "[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, mCudaStream->get()): out of memory"
ILLEGAL = (
    "[TensorRT-LLM][ERROR] CUDA runtime error in cudaStreamSynchronize(get()): an illegal memory access was encountered"
)
BLOCKS = "[TensorRT-LLM][ERROR] Assertion failed: Can't allocate new blocks. No free blocks left."
TOLD = "The engine failed: see the server's log."


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (FETCHED + TOO_LONG + TRACE, "The prompt is 600 tokens long, and the engine takes 512: shorten the prompt."),
        (
            f"{FETCHED}[TensorRT-LLM][ERROR] Assertion failed: Request is specified with GuidedDecodingParams, but "
            f"GuidedDecoder is not setup. Please provide a valid GuidedDecodingConfig to setup GuidedDecoder.{TRACE}",
            "The packed engine has no guided decoding: leave out response_format, and tool_choice if it names or "
            "requires a function.",
        ),
        (
            "[request id: <id_unknown>] unexpected inference input 'runtime_min_p' for model 'tensorrt_llm'",
            "The packed model has no tensor runtime_min_p, which this request needs: pack it again.",
        ),
        ("invalid request: temperature is -1.0: it must lie between 0.0 and 1000000.0.", None),
    ],
)
def test_a_clients_fault_is_told_in_our_words(message: str, told: str | None) -> None:
    error = Failures().meaning()(message)
    assert isinstance(error, RequestRefused)
    assert str(error) == (told or message.removeprefix("invalid request: "))


@pytest.mark.parametrize(
    "message",
    [
        STEP + NO_MEMORY + TRACE,
        STEP + BLOCKS + TRACE,
        f"Error encountered while populating response: sequence_length tensor must be present{TRACE}",
        f"{FETCHED}[TensorRT-LLM][ERROR] Assertion failed: topP.value() > 0.f{TRACE}",
        "unexpected inference output 'sequence_length' for model 'tensorrt_llm'",
        "[request id: <id_unknown>] expected 5 inputs but got 4 inputs for model 'tensorrt_llm'",
        "Failed to allocate memory",
        "The engine failed in a step.",
    ],
)
def test_all_else_is_the_engines_failure_in_a_sentence(message: str) -> None:
    error = Failures().meaning()(message)
    assert isinstance(error, EngineUnavailable)
    assert str(error) == TOLD


@pytest.mark.parametrize(
    "message",
    [
        "Request for unknown model: 'tensorrt_llm' is not found",
        "Server is stopping, scheduler for model has stopped accepting new inference requests",
        f"[TensorRT-LLM][ERROR] Assertion failed: Shutdown called, cannot enqueue requests{TRACE}",
        "Maximum queue size of 8 has been reached, please try again later",
    ],
)
def test_an_engine_that_is_away_has_not_failed(message: str) -> None:
    reasons: list[str] = []
    error = Failures(1, reasons.append).meaning()(message)
    assert isinstance(error, EngineUnavailable)
    assert str(error) == "The engine is not taking requests at the moment."
    assert reasons == []


def test_failures_in_a_row_condemn_the_engine_once() -> None:
    reasons: list[str] = []
    failures = Failures(3, reasons.append)
    for number in range(6):
        failures.meaning()(STEP + NO_MEMORY)
        assert reasons == ([] if number < 2 else ["The engine failed 3 requests in a row."])


def test_an_answer_that_is_well_ends_the_row_and_a_refusal_does_not_count() -> None:
    reasons: list[str] = []
    failures = Failures(2, reasons.append)
    for _ in range(5):
        failures.meaning()(STEP + NO_MEMORY)
        failures.forget()
        failures.meaning()(FETCHED + TOO_LONG)
    assert reasons == []


def test_what_fails_together_counts_once() -> None:
    reasons: list[str] = []
    failures = Failures(2, reasons.append)
    together = [failures.meaning() for _ in range(20)]
    for meaning in together:
        meaning(STEP + NO_MEMORY)
    assert reasons == []
    failures.meaning()(STEP + NO_MEMORY)
    assert reasons == ["The engine failed 2 requests in a row."]


def test_a_lost_gpu_condemns_the_engine_at_once() -> None:
    reasons: list[str] = []
    Failures(100, reasons.append).meaning()(STEP + ILLEGAL + TRACE)
    assert reasons == ["The engine failed a request, and its GPU is lost."]


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (NO_MEMORY + TRACE, "CUDA runtime error in ::cudaMallocAsync(ptr, n, mCudaStream->get()): out of memory"),
        (BLOCKS + TRACE, "an assertion of TensorRT-LLM failed"),
        (
            f"unexpected error when creating modelInstanceState: {BLOCKS}{TRACE}",
            "unexpected error when creating modelInstanceState: an assertion of TensorRT-LLM failed",
        ),
        ("[TensorRT-LLM][ERROR] Cannot read /models/x/rank0.engine:1 (/src/a.cpp:1)", "Cannot read …"),
        ("[TensorRT-LLM][ERROR][1] rank 1 says no", "rank 1 says no"),
        (TRACE.partition("\n")[2], "TensorRT-LLM wrote only a stack trace"),
        ("ValueError: no weights in /models/x", "ValueError: no weights in /models/x"),
    ],
)
def test_what_others_may_read(message: str, read: str) -> None:
    assert engine_errors.readable(message) == read


@pytest.mark.parametrize(
    ("message", "tensor"),
    [
        ("[invalid_request temperature] temperature is -1.0: it must lie between 0.0 and 1000000.0.", "temperature"),
        ("[invalid_request guided_decoding_guide] guided_decoding_guide cannot be compiled.", "guided_decoding_guide"),
        ("[invalid_request] The prompt does not fit the KV cache.", None),
        (FETCHED + TOO_LONG + TRACE, "input_ids"),
    ],
)
def test_a_refusal_names_the_tensor_at_fault(message: str, tensor: str | None) -> None:
    error = Failures().meaning()(message)
    assert isinstance(error, RequestRefused)
    assert error.tensor == tensor


@pytest.mark.parametrize(
    "fault",
    [
        Fault(INVALID_REQUEST, "temperature is -1.0: it must lie between 0.0 and 1000000.0.", "temperature"),
        Fault(INVALID_REQUEST, "It has\ntwo lines [and brackets]."),
        Fault(FAILED, "The engine failed in a step."),
        Fault(UNAVAILABLE, "The server is stopping."),
    ],
)
def test_what_our_engine_models_say_is_read_as_they_meant_it(fault: Fault) -> None:
    assert engine_errors.read(str(fault)) == fault


@pytest.mark.parametrize("text", ["[request id: 7] no", "[invalid_request]", "[TensorRT-LLM][ERROR] x", "[other] x"])
def test_brackets_of_others_are_no_code(text: str) -> None:
    assert Fault.read(text) is None
    assert engine_errors.read(text) == Fault(FAILED, text)
