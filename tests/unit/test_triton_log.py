"""What tritonserver writes, as log records and as the reason of a failure."""

import logging
import time

import pytest

from bento_trtllm.triton.process.log import TritonLog

LOGGER = logging.getLogger("tests.triton")


def feed(*lines: str) -> TritonLog:
    log = TritonLog(LOGGER)
    for line in lines:
        log.feed(line)
    return log


def line(level: str, message: str, place: str = "server.cc:241") -> str:
    return f"{level}1123 00:05:11.918438 4298 {place}] {message}"


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        (line("I", '"loading: echo:1"'), logging.DEBUG, "loading: echo:1"),
        (line("I", "loading: echo:1"), logging.DEBUG, "loading: echo:1"),  # before 2.47: no JSON
        (line("I", '"hello"', "model.py:6"), logging.INFO, "hello"),
        (line("W", '"warn"printed'), logging.WARNING, "warnprinted"),
        (line("E", '"a \\"b\\"\\nc"'), logging.ERROR, 'a "b"\nc'),
        (line("F", "x"), logging.CRITICAL, "x"),
        (line("E", '"CudaDriverHelper has not been initialized."'), logging.DEBUG, None),
        ("Error: Failed to initialize NVML", logging.DEBUG, None),
        ("printed by a model", logging.INFO, "printed by a model"),
        ("[libprotobuf ERROR text_format.cc:337] bad", logging.ERROR, None),
        ("error: creating server: Internal - no", logging.ERROR, None),
        ("| a table |", logging.DEBUG, "| a table |"),
        ("[TensorRT-LLM][ERROR] no (/src/a.cpp:1)", logging.ERROR, None),
        ("[TensorRT-LLM][WARNING] hm", logging.WARNING, None),
        ("[TensorRT-LLM][INFO] Engine version 1.1.0", logging.DEBUG, None),
        ("[TensorRT-LLM][ERROR][1] of a rank", logging.ERROR, None),
        ("  what():  [TensorRT-LLM][ERROR] no", logging.ERROR, None),
        ("  what():  std::bad_alloc", logging.ERROR, None),
    ],
)
def test_levels(caplog: pytest.LogCaptureFixture, text: str, level: int, message: str | None) -> None:
    caplog.set_level(logging.DEBUG, LOGGER.name)
    feed(text)
    ((_, found, said),) = caplog.record_tuples
    assert found == level
    if message is not None:
        assert said == message


def test_a_table_has_the_level_of_the_line_above(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER.name)
    feed(line("W", ""), "+---+", "| x |", "", line("I", "next"), "| y |")
    assert [(level, text) for _, level, text in caplog.record_tuples] == [
        (logging.WARNING, "+---+"),
        (logging.WARNING, "| x |"),
        (logging.DEBUG, "next"),
        (logging.DEBUG, "| y |"),
    ]


def test_the_first_model_that_failed_is_the_failure() -> None:
    log = feed(
        line("E", '"failed to load \'a\' version 1: Internal: ValueError: no \\"x\\"\\n\\nAt:\\n  m.py(3)"'),
        line("E", "\"failed to load 'b' version 1: Invalid argument: depends on a\""),
    )
    assert log.failure == 'model a: ValueError: no "x"'
    assert log.reason() == log.failure


def test_the_reason_is_the_last_error_or_the_last_line() -> None:
    assert feed().reason() == "it wrote nothing"
    log = feed("one", "two", "", "| a table |")
    assert log.failure is None
    assert log.reason() == "the last line that it wrote is: two"
    assert feed("one", "error: creating server: Internal - no GPU", "two").reason() == "Internal - no GPU"
    assert feed(line("E", '"out of memory"'), "one").reason() == "out of memory"


FRAMES = (
    "1       0x7f3a68154000 tensorrt_llm::common::throwRuntimeError(char const*, int, char const*) + 82",
    "2             (nil) /lib/x86_64-linux-gnu/libc.so.6(+0x9caa4) [0x7f3b1009caa4]",
    " 0# 0x000055F5C8A1F3D9 in tritonserver",
    "[host:00042] *** Process received signal ***",
    "[host:00042] [ 0] /lib/x86_64-linux-gnu/libc.so.6(+0x3c050)[0x7f0c1d85b050]",
    "[truncated]",
)


def test_the_reason_of_a_crash_is_its_first_error_and_no_stack_frame(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER.name)
    log = TritonLog(LOGGER)
    log.settle()
    for said in (
        "[TensorRT-LLM][ERROR] Encountered an error when fetching new request: Prompt length (9) exceeds maximum "
        "input length (8). (/src/llmRequest.cpp:262)",
        "[TensorRT-LLM][ERROR] CUDA runtime error in cudaFree(p): an illegal memory access was encountered (/a.h:1)",
        *FRAMES,
        "[TensorRT-LLM][ERROR] Assertion failed: something else (/src/b.h:2)",
        *FRAMES,
    ):
        log.feed(said)
    assert log.reason() == "CUDA runtime error in cudaFree(p): an illegal memory access was encountered"
    assert {level for _, level, text in caplog.record_tuples if text in FRAMES} == {logging.ERROR}


def test_a_stack_frame_is_not_the_last_word() -> None:
    assert feed("it is well", *FRAMES).reason() == "the last line that it wrote is: it is well"


def test_an_old_error_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    log = feed(line("E", '"while starting"'))
    assert log.reason() == "while starting"
    log.settle()
    log.feed(line("E", '"about a request"'))
    assert log.reason() == "about a request"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert log.reason().startswith("the last line that it wrote is: E")


def test_a_taken_port_is_told_from_other_errors() -> None:
    text = "failed to start Metrics service: Unavailable - Socket '127.0.0.1:18002' already in use "
    assert feed(line("E", f'"{text}"')).port_taken
    assert not feed(line("E", '"other"')).port_taken


def test_the_tail_is_bounded() -> None:
    assert len(feed(*map(str, range(1000))).tail) == 200
