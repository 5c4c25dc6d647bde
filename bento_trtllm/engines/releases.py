"""NVIDIA's containers that can build and serve a TensorRT engine, and what differs between them.

Container, Python, CUDA, driver and TensorRT-LLM: "Release Compatibility Matrix" of Triton's user guide
(docs.nvidia.com, triton-inference-server/user-guide/docs/introduction/compatibility.html). Tensors: TensorRT-LLM's
triton_backend/all_models/inflight_batcher_llm (1.x), tensorrtllm_backend v0.10.0 before; both are in
tests/contract. Releases between them are left out, because nobody compared their tensors.

The last release is 25.12: what came after it lost the engine backend and trtllm-build.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bento_trtllm.errors import EngineError

DialectName = Literal["0.10.0", "0.19.0", "1.x"]

RENAMED: Mapping[DialectName, Mapping[str, str]] = {
    "0.10.0": {"seed": "random_seed", "min_tokens": "min_length"},
    "0.19.0": {"seed": "random_seed", "min_tokens": "min_length"},
    "1.x": {},
}
"""Tensors of the 1.x dialect, the one that the rest of the project speaks, and what others call them."""


@dataclass(frozen=True)
class Release:
    """One container. `cuda` and `driver` are what NVIDIA names for it."""

    tag: str
    tensorrt_llm: str
    python: str
    cuda: str
    driver: str
    dialect: DialectName
    newest_capability: tuple[int, int]
    """The newest GPUs that its CUDA knows: 12.4 ends at Hopper (9.0), 12.8 brought Blackwell."""
    tokens_per_block: int
    """Of the paged KV cache, trtllm-build's default: tensorrt_llm/plugin/plugin.py; TensorRT-LLM's announcement of
    2024-05-14 for 0.10.0."""
    scaled_rope: bool
    """Whether it knows rope type llama3: Llama 3.1, which brought it, is younger than 0.10.0."""
    max_seq_len_flag: bool
    """trtllm-build takes --max_seq_len; 0.10.0 has --max_output_len in its place (tensorrt_llm/commands/build.py)."""

    @property
    def image(self) -> str:
        return f"nvcr.io/nvidia/tritonserver:{self.tag}-trtllm-python-py3"


BLACKWELL = (12, 1)

RELEASES = {
    release.tag: release
    for release in (
        Release("24.06", "0.10.0", "3.10", "12.4.0", "550.54.14", "0.10.0", (9, 0), 64, False, False),
        Release("25.09", "1.0.0", "3.12", "12.9.1", "575.57.08", "1.x", BLACKWELL, 32, True, True),
        Release("25.10", "1.0.0", "3.12", "12.9.1", "575.57.08", "1.x", BLACKWELL, 32, True, True),
        Release("25.11", "1.0.3", "3.12", "13.0.2", "580.95.05", "1.x", BLACKWELL, 32, True, True),
        Release("25.12", "1.1.0", "3.12", "13.0.2", "580.95.05", "1.x", BLACKWELL, 32, True, True),
    )
}
DEFAULT = "25.12"


def find_release(tag: str) -> Release:
    """The release of a container tag. Raises EngineError for one that is not in the table."""
    try:
        return RELEASES[tag]
    except KeyError:
        known = ", ".join(f"{release.tag} ({release.tensorrt_llm})" for release in RELEASES.values())
        raise EngineError(f"there is no release {tag} here: choose one of {known} with --release") from None


def same_version(wanted: str, found: str) -> bool:
    """Whether an installed TensorRT-LLM is the release's: 1.0.3.2510 and 1.0.3+cu13 are 1.0.3, 1.0.30 is not."""
    return found == wanted or found.startswith((f"{wanted}.", f"{wanted}+"))
