"""What a pipeline would leave to its first request: its weights are arranged for this CPU's kernels in its first step.

That takes most of an int4 engine's start, and makes a copy of all weights (OpenVINO 2026.4). From then on, the pages of
their file would only be held for nothing: the kernel takes them back when it is short of memory, and until then they
count as this process's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai

# linux/mman.h
MADV_DONTNEED = 4


def warm(pipeline: genai.ContinuousBatchingPipeline, guessed: int) -> None:
    """Make its first step, with one token; `guessed` as for `Sequence.submit`."""
    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.ignore_eos = True
    if guessed:
        config.num_assistant_tokens, config.max_ngram_size = guessed, 1
    pipeline.generate([ov.Tensor(np.zeros((1, 1), np.int64))], [config])


def let_go(file: Path) -> None:
    """Give back the pages of a file that is mapped to be read; what is read again comes from the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    for start, end in _mapped(file):
        # Only advice: where it is not taken, the pages stay.
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def _mapped(file: Path) -> Iterator[tuple[int, int]]:
    """Where it is mapped and cannot be written: nothing there is this process's own (man 5 proc, /proc/pid/maps)."""
    path = str(file.resolve())
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        addresses, access, *_, name = line.split(maxsplit=5)
        if name == path and "w" not in access:
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)
