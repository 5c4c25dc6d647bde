"""NVIDIA's containers that can build and serve a TensorRT engine, and what differs between them.

Container, Python, CUDA, driver and TensorRT-LLM: "Release Compatibility Matrix" of Triton's user guide
(docs/introduction/compatibility.md of triton-inference-server/server, r26.08). What each TensorRT-LLM takes is in
versions.py.

The last is 26.07: upstream then took out trtllm-build, the conversion and the engine backend.

docker.py asks it outside any environment of ours: this module and versions.py import nothing that does not come with
Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bento_trtllm.engines.tensorrt.versions import VERSIONS, Version
from bento_trtllm.errors import EngineError

if TYPE_CHECKING:
    from bento_trtllm.manifest import DialectName


@dataclass(frozen=True)
class Release:
    """One container. `cuda` and `driver` are what NVIDIA names for it."""

    tag: str
    tensorrt_llm: str
    python: str
    cuda: str
    driver: str
    newest_capability: tuple[int, int]
    """The newest GPUs that its CUDA and its TensorRT-LLM know."""
    virtual_environment: bool = False
    """The image's Python, with tensorrt_llm, is /opt/venv-tritonserver (dockerfile/Dockerfile.triton.trt_llm_backend
    of tensorrtllm_backend, from r26.03 on)."""

    @property
    def image(self) -> str:
        return f"nvcr.io/nvidia/tritonserver:{self.tag}-trtllm-python-py3"

    @property
    def version(self) -> Version:
        return VERSIONS[self.tensorrt_llm]

    @property
    def dialect(self) -> DialectName:
        return self.version.dialect


# CUDA 12.4 to 12.6 end at Hopper. 12.8 brought Blackwell: TensorRT-LLM 0.17.0 for B200 alone, and GeForce and RTX PRO
# later.
HOPPER, B200, BLACKWELL = (9, 0), (10, 0), (12, 1)

RELEASES = {
    release.tag: release
    for release in (
        Release("24.06", "0.10.0", "3.10", "12.4.0", "550.54.14", HOPPER),
        Release("24.07", "0.11.0", "3.10", "12.4.1", "550.54.15", HOPPER),
        Release("24.08", "0.12.0", "3.10", "12.5.1", "555.42.06", HOPPER),
        Release("24.09", "0.13.0", "3.10", "12.5.1", "555.42.06", HOPPER),
        Release("24.10", "0.14.0", "3.10", "12.5.1", "555.42.06", HOPPER),
        Release("24.11", "0.15.0", "3.10", "12.6.3", "555.42.06", HOPPER),
        Release("24.12", "0.16.0", "3.12", "12.6.3", "560.35.05", HOPPER),
        Release("25.01", "0.17.0", "3.12", "12.8.0", "570.86.10", B200),
        Release("25.03", "0.18.0", "3.12", "12.8.1", "570.124.06", B200),
        Release("25.09", "1.0.0", "3.12", "12.9.1", "575.57.08", BLACKWELL),
        Release("25.10", "1.0.0", "3.12", "12.9.1", "575.57.08", BLACKWELL),
        Release("25.11", "1.0.3", "3.12", "13.0.2", "580.95.05", BLACKWELL),
        Release("25.12", "1.1.0", "3.12", "13.0.2", "580.95.05", BLACKWELL),
        Release("26.01", "1.1.0", "3.12", "13.0.2", "580.95.05", BLACKWELL),
        Release("26.02", "1.1.0", "3.12", "13.0.2", "580.95.05", BLACKWELL),
        Release("26.03", "1.2.0", "3.12", "13.1.0", "590.44.01", BLACKWELL, virtual_environment=True),
        Release("26.04", "1.2.1", "3.12", "13.1.0", "590.44.01", BLACKWELL, virtual_environment=True),
        Release("26.05", "1.2.1", "3.12", "13.1.0", "590.44.01", BLACKWELL, virtual_environment=True),
        Release("26.06", "1.2.1", "3.12", "13.1.0", "590.44.01", BLACKWELL, virtual_environment=True),
        Release("26.07", "1.2.1", "3.12", "13.1.0", "590.44.01", BLACKWELL, virtual_environment=True),
    )
}
DEFAULT = "26.07"


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
