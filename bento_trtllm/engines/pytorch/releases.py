"""Which of NVIDIA's containers run a PyTorch engine: those of the TensorRT engine's table from 25.12 on.

TensorRT-LLM 1.1.0 is the first that has all that our Triton model asks for (sampler_type came with 1.1.0rc2, NVIDIA's
pull request 6831), and the containers' last is 1.2.1. tests/contract/llm-api-*.json say what 1.1.0, 1.2.1 and 1.3.0rc3
have; from 1.3.0rc26 on TRTLLMSampler, without which penalties and seeds are not heeded up to there, is refused.
"""

from bento_trtllm.engines.tensorrt.releases import RELEASES, Release, find_release, same_version
from bento_trtllm.errors import EngineError

FIRST = "25.12"
SERVING = {tag: release for tag, release in RELEASES.items() if tag >= FIRST}


def find(tag: str) -> Release:
    """The release of a container tag. Raises EngineError for one that has no PyTorch runtime that we know."""
    if (release := find_release(tag)).tag not in SERVING:
        raise EngineError(
            f"release {tag} has TensorRT-LLM {release.tensorrt_llm}, and the PyTorch engine needs 1.1.0: take "
            f"--release {FIRST} or later"
        )
    return release


def known(version: str) -> bool:
    """Whether an installed TensorRT-LLM is that of one of the containers."""
    return any(same_version(release.tensorrt_llm, version) for release in SERVING.values())
