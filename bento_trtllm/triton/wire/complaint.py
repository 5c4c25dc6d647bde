"""What an engine's own words mean, and what of them others may read: the one place that knows NVIDIA's messages.

A request is its client's fault only if a line of FAULTS says so; whatever else an engine complains of is its own
failure. What TensorRT-LLM throws carries a prefix, the place in its source and a stack trace (tllmException.h,
tllmException.cpp and assert.h, 0.10.0 to 1.3.0rc3):

    [TensorRT-LLM][ERROR] Assertion failed: <condition or text> (/src/tensorrt_llm/…/file.cpp:123)
    1       0x7f1a… tensorrt_llm::executor::Executor::Impl::… + 456

None of that is for clients, and a stack frame is no reason.
"""

import re
from dataclasses import dataclass

INVALID = "invalid request: "
"""Our own Triton models put it before what is wrong with a request (triton_models/openvino/batcher.py)."""


@dataclass(frozen=True)
class Fault:
    """A client's fault as an engine words it, and as a client is told of it, with the numbers found."""

    words: re.Pattern[str]
    sentence: str


FAULTS = (
    # TLLM_THROW in batch_manager/llmRequest.h:201 (0.10.0) and :483 (0.16.0), llmRequest.cpp:262 (1.3.0rc3).
    Fault(
        re.compile(r"Prompt length \((\d+)\) exceeds maximum input length \((\d+)\)"),
        "The prompt is {} tokens long, and the engine takes {}: shorten the prompt.",
    ),
    # executor/executorImpl.cpp:1561 (1.3.0rc3); the file is closed at 0.10.0 and 0.16.0.
    Fault(
        re.compile(r"Request sequence length is potentially greater than max input length"),
        "The prompt and the answer that it asks for are together longer than the engine takes: shorten the prompt, or "
        "lower max_tokens.",
    ),
    # executor/executorImpl.cpp:1623 (1.3.0rc3); closed at 0.16.0, and 0.10.0 has no guided decoding.
    Fault(
        re.compile(r"Request is specified with GuidedDecodingParams, but GuidedDecoder is not setup"),
        "The packed engine has no guided decoding: leave out response_format, and tool_choice if it names or requires "
        "a function.",
    ),
)
AWAY = re.compile(
    # Triton's core, for a model that is loading, unloading or gone.
    r"not ready|unavailable|not healthy|stopping|is not found"
    # executorImpl.cpp:888 and :944 (1.3.0rc3): it is closing, or its queue is full.
    r"|Shutdown called|Maximum queue size of \d+ has been reached",
    re.IGNORECASE,
)
"""The engine cannot take a request now, and has not failed."""
LOST = re.compile(
    # cudaGetErrorString of cudaErrorIllegalAddress, …Assert, …LaunchFailure, …MisalignedAddress, …IllegalInstruction,
    # …InvalidPc, …HardwareStackError, …InvalidAddressSpace, …LaunchTimeout, …ECCUncorrectable (CUDA Runtime API, data
    # types). Of each it says there: "any further CUDA work will return the same error", the process must be ended.
    r"illegal memory access|device-side assert|unspecified launch failure|misaligned address|illegal instruction"
    r"|invalid program counter|hardware stack error|operation not supported on global/shared address space"
    r"|launch timed out and was terminated|uncorrectable ECC error",
    re.IGNORECASE,
)
MARK = re.compile(r"\[TensorRT-LLM\]\[(\w+)\](?:\[\d+\])? ?")
"""The prefix of a line of its log (common/logger.h; with a rank or without), and of what it throws."""
FRAME = re.compile(
    # TllmException::getTrace; Triton's own handler, which is boost::stacktrace; Open MPI's.
    r"\s*\d+#?\s+(?:0x[0-9a-fA-F]+|\(nil\))|\[[^\]]+:\d+\] (?:\[ *\d+\]|\*\*\*)|\[truncated\]$"
)
"""A line of a stack trace."""
ASSERTION = re.compile(r"Assertion failed:?.*|Assertion `.*' failed.*", re.DOTALL)
PLACE = re.compile(r"\s*\((?:/|\.\./)[^()\s]*:\d+\)")
PATH = re.compile(r"(?<![\w.:/])/[\w.+-]+(?:/[\w.+-]+)+(?::\d+)?")


def fault(message: str) -> str | None:
    """What is wrong with the request, for its client; None where nothing says that the client is to blame."""
    if message.startswith(INVALID):
        return message.removeprefix(INVALID)
    for each in FAULTS:
        if found := each.words.search(message):
            return each.sentence.format(*found.groups())
    return None


def is_away(message: str) -> bool:
    """Whether it says no more than that the engine takes nothing now."""
    return AWAY.search(message) is not None


def is_lost(message: str) -> bool:
    """Whether the engine's process can do nothing any more, whatever it answers."""
    return LOST.search(message) is not None


def readable(message: str) -> str:
    """A message for people who need not know TensorRT-LLM: no stack frame, no assertion, no place in a source.

    A message of another kind stays as it is.
    """
    if not (MARK.search(message) or ASSERTION.search(message) or any(map(FRAME.match, message.splitlines()))):
        return message
    said = [line for line in MARK.sub("", message).splitlines() if line.strip() and not FRAME.match(line)]
    text = PATH.sub("…", PLACE.sub("", said[0] if said else "")).strip().removeprefix("what():").strip()
    text = ASSERTION.sub("an assertion of TensorRT-LLM failed", text)
    return text or "TensorRT-LLM wrote a stack trace only"
