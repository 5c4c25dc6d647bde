"""Exceptions in upstream's words: tllmException.cpp and assert.h, the same from 0.10.0 to 1.3.0rc3."""

from __future__ import annotations

BACKEND = "/tmp/tritonbuild/tensorrtllm/inflight_batcher_llm/src/"
LIBRARY = "/workspace/tensorrt_llm/cpp/tensorrt_llm/"
# What backtrace_symbols gives differs from build to build; the form is upstream's.
FRAMES = (
    "tensorrt_llm::common::throwRuntimeError(char const*, int, char const*) + 82",
    "/opt/tritonserver/backends/tensorrtllm/libtriton_tensorrtllm.so(+0x1b0f3) [0x7f3a681540f3]",
    "tensorrt_llm::executor::Executor::Impl::executionLoop() + 1215",
    "/lib/x86_64-linux-gnu/libc.so.6(+0x9caa4) [0x7f3b1009caa4]",
)


class TllmError(RuntimeError):
    """A TllmException: what was thrown, where, and the stack."""

    def __init__(self, message: str, place: str) -> None:
        trace = "\n".join(f"{i:<3} {0x7F3A68154000 + 4096 * i:#18x} {name}" for i, name in enumerate(FRAMES, 1))
        super().__init__(f"{message} ({place})\n{trace}")


def failed(message: str, place: str) -> TllmError:
    """What TLLM_CHECK and TLLM_CHECK_WITH_INFO throw, and TLLM_THROW without the first words; `place` is file:line."""
    return TllmError(f"[TensorRT-LLM][ERROR] Assertion failed: {message}", place)


def thrown(message: str, place: str) -> TllmError:
    """What TLLM_THROW throws."""
    return TllmError(message, place)


def cuda_failed(call: str, reason: str, place: str) -> TllmError:
    """What TLLM_CUDA_CHECK throws (cudaUtils.h); `reason` is CUDA's own text."""
    return TllmError(f"[TensorRT-LLM][ERROR] CUDA runtime error in {call}: {reason}", place)


FAILURES = {
    "out_of_memory": cuda_failed(
        "::cudaMallocAsync(ptr, n, mCudaStream->get())", "out of memory", f"{LIBRARY}runtime/tllmBuffers.h:122"
    ),
    "illegal_memory_access": cuda_failed(
        "cudaStreamSynchronize(get())",
        "an illegal memory access was encountered",
        "/workspace/tensorrt_llm/cpp/include/tensorrt_llm/runtime/cudaStream.h:86",
    ),
    "no_blocks": failed(
        "Can't allocate new blocks. No free blocks left.", f"{LIBRARY}batch_manager/kvCacheManager.cpp:520"
    ),
}
"""What a GPU's engine fails with in a step, for the door."""
