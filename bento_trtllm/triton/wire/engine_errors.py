"""What an engine's error means, and how much of it to show: the only place that knows NVIDIA's messages.

Our own Triton models send codes (triton_models/shared/faults.py). With NVIDIA's backend an error is the client's fault
only if an entry of FAULTS says so; any other error is the engine's own failure. TensorRT-LLM's exceptions carry a
prefix, the place in its source and a stack trace (tllmException.h, tllmException.cpp and assert.h, 0.10.0 to 1.3.0rc3):

    [TensorRT-LLM][ERROR] Assertion failed: <condition or text> (/src/tensorrt_llm/…/file.cpp:123)
    1       0x7f1a… tensorrt_llm::executor::Executor::Impl::… + 456

None of that is for clients, and a stack frame explains nothing.
"""

import re
from dataclasses import dataclass

from bento_trtllm.triton_models.shared.faults import FAILED, INVALID_REQUEST, UNAVAILABLE, Fault


@dataclass(frozen=True)
class Wording:
    """A client's fault as the engine words it, and the sentence for the client, filled in with the pattern's groups.

    `tensor` is the one at fault, "" if the message does not say.
    """

    words: re.Pattern[str]
    sentence: str
    tensor: str = ""


FAULTS = (
    # TLLM_THROW in batch_manager/llmRequest.h:201 (0.10.0) and :483 (0.16.0), llmRequest.cpp:262 (1.3.0rc3).
    Wording(
        re.compile(r"Prompt length \((\d+)\) exceeds maximum input length \((\d+)\)"),
        "The prompt is {} tokens long, and the engine takes {}: shorten the prompt.",
        "input_ids",
    ),
    # executor/executorImpl.cpp:1561 (1.3.0rc3); the file is closed source in 0.10.0 and 0.16.0.
    Wording(
        re.compile(r"Request sequence length is potentially greater than max input length"),
        "The prompt and the answer that it asks for are together longer than the engine takes: shorten the prompt, or "
        "lower max_tokens.",
        "request_output_len",
    ),
    # executor/executorImpl.cpp:1623 (1.3.0rc3); closed source in 0.16.0, and 0.10.0 has no guided decoding.
    Wording(
        re.compile(r"Request is specified with GuidedDecodingParams, but GuidedDecoder is not setup"),
        "The packed engine has no guided decoding: leave out response_format, and tool_choice if it names or requires "
        "a function.",
        "guided_decoding_guide",
    ),
    # Triton's core, for a tensor that the packed model lacks (infer_request.cc): it was packed before there was one.
    Wording(
        re.compile(r"unexpected inference input '(\w+)' for model"),
        "The packed model has no tensor {}, which this request needs: pack it again.",
    ),
    # From our own engine, packed before its errors had codes.
    Wording(re.compile(r"^invalid request: (.*)", re.DOTALL), "{}"),
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
"""The prefix of TensorRT-LLM's log lines (common/logger.h; with a rank or without) and exceptions."""
FRAME = re.compile(
    # TllmException::getTrace; Triton's own handler, which is boost::stacktrace; Open MPI's.
    r"\s*\d+#?\s+(?:0x[0-9a-fA-F]+|\(nil\))|\[[^\]]+:\d+\] (?:\[ *\d+\]|\*\*\*)|\[truncated\]$"
)
"""A line of a stack trace."""
ASSERTION = re.compile(r"Assertion failed:?.*|Assertion `.*' failed.*", re.DOTALL)
PLACE = re.compile(r"\s*\((?:/|\.\./)[^()\s]*:\d+\)")
PATH = re.compile(r"(?<![\w.:/])/[\w.+-]+(?:/[\w.+-]+)+(?::\d+)?")


def read(message: str) -> Fault:
    """The code, the tensor and the message of an engine's error.

    A message of NVIDIA's is for clients only if the code says that they are at fault."""
    if ours := Fault.read(message):
        return ours
    for each in FAULTS:
        if found := each.words.search(message):
            return Fault(INVALID_REQUEST, each.sentence.format(*found.groups()), each.tensor)
    return Fault(UNAVAILABLE if AWAY.search(message) else FAILED, message)


def is_lost(message: str) -> bool:
    """Whether the engine's process has become useless, whatever it still answers."""
    return LOST.search(message) is not None


def readable(message: str) -> str:
    """A message for people who do not know TensorRT-LLM: no stack frame, no assertion, no place in a source.

    Any other message is returned unchanged.
    """
    if not (MARK.search(message) or ASSERTION.search(message) or any(map(FRAME.match, message.splitlines()))):
        return message
    lines = [line for line in MARK.sub("", message).splitlines() if line.strip() and not FRAME.match(line)]
    text = PATH.sub("…", PLACE.sub("", lines[0] if lines else "")).strip().removeprefix("what():").strip()
    text = ASSERTION.sub("an assertion of TensorRT-LLM failed", text)
    return text or "TensorRT-LLM wrote only a stack trace"
