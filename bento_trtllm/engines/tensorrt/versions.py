"""What one version of TensorRT-LLM takes and can do, as far as an engine of ours depends on it.

Read in TensorRT-LLM's own sources at 0.10.0 to 0.16.0 and at 1.3.0rc3, and its docs/source/release-notes.md for what
came between: tensorrt_llm/commands/build.py and plugin/plugin.py (options), models/llama (conversion),
quantization/quantize_by_modelopt.py (data sets), builder.py (what goes together). tests/contract has the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bento_trtllm.manifest import DialectName


@dataclass(frozen=True)
class Version:
    """One version, or several in a row that are alike."""

    dialect: DialectName
    read: tuple[str, ...]
    """Names of the data in tests/contract that its tensors were compared with. One: this version's own. Two: the last
    one read before it and the first one after it; it is taken to have what both have."""
    built_with: tuple[str, ...]
    """The same for the options of trtllm-build."""
    conversion: Literal["0.10.0", "0.11.0"] = "0.11.0"
    """How convert.py calls it: 0.11.0 brought the keywords quant_config and device."""
    fp8_cache_as_text: bool = False
    """An FP8 KV cache is asked for with "fp8": there QuantAlgo.FP8 is handed on as it is, does not equal "fp8", and
    becomes an INT8 cache."""
    tokens_per_block: int = 32
    """Of the paged KV cache, trtllm-build's default. For 0.17 and 0.18 the larger of the values before and after."""
    max_seq_len_flag: bool = True
    """trtllm-build takes --max_seq_len; 0.10.0 has --max_output_len in its place."""
    oldest_capability: tuple[int, int] = (8, 0)
    """Of a GPU that it runs on. Up to 0.15.0 kernels are compiled for 7.0 and so run on 7.5, since 0.16.0 for 8.0 and
    later alone (cpp/CMakeLists.txt); the release notes give up Volta in 0.15.0."""
    scaled_rope: bool = True
    """Knows the rope type llama3, which Llama 3.1 brought: from 0.12.0 on."""
    own_head_dim: bool = True
    """Reads a head_dim that is not hidden_size / num_attention_heads."""
    tied_embeddings: bool = True
    """Converts a checkpoint without lm_head.weight."""
    calibration_directory: bool = True
    """Quantises with any local data set that has a column `text`."""
    nvfp4: bool = False
    """LLaMAForCausalLM.quantize takes NVFP4, and trtllm-build builds it."""


VOLTA, TURING = (7, 0), (7, 5)

OLDEST = Version(
    "0.10.0", ("0.10.0",), ("0.10.0",), "0.10.0", fp8_cache_as_text=True, tokens_per_block=64, max_seq_len_flag=False,
    oldest_capability=VOLTA, scaled_rope=False, own_head_dim=False, tied_embeddings=False, calibration_directory=False,
)  # fmt: skip

VERSIONS: Mapping[str, Version] = {
    "0.10.0": OLDEST,
    "0.11.0": Version(
        "0.10.0",
        ("0.11.0",),
        ("0.11.0",),
        fp8_cache_as_text=True,
        tokens_per_block=64,
        oldest_capability=VOLTA,
        scaled_rope=False,
        own_head_dim=False,
    ),
    "0.12.0": Version("0.12.0", ("0.12.0",), ("0.12.0",), tokens_per_block=64, oldest_capability=VOLTA),
    "0.13.0": Version("0.12.0", ("0.13.0",), ("0.13.0",), tokens_per_block=64, oldest_capability=VOLTA),
    "0.14.0": Version("0.12.0", ("0.14.0",), ("0.14.0",), tokens_per_block=64, oldest_capability=VOLTA),
    "0.15.0": Version("0.15.0", ("0.15.0",), ("0.15.0",), tokens_per_block=64, oldest_capability=TURING),
    "0.16.0": Version("0.15.0", ("0.16.0",), ("0.16.0",), tokens_per_block=64),
    **dict.fromkeys(
        ("0.17.0", "0.18.0"),
        Version("0.15.0", ("0.17.0",), ("0.16.0", "1.3.0rc3"), tokens_per_block=64),
    ),
    **dict.fromkeys(
        ("1.0.0", "1.0.3", "1.1.0", "1.2.0", "1.2.1"),
        Version("1.x", ("0.20.0.dev", "1.3.0rc3"), ("0.16.0", "1.3.0rc3"), nvfp4=True),
    ),
}
"""Not here, since the tensors or parameters that we use are not known: 0.17.0.post1, 0.18.2 and 0.19.0, for which
NVIDIA's tag of the version (v0.17.0, v0.18.2, v0.19.0) and branch of the container (r25.02, r25.04, r25.05) disagree in
what must be given, or in the names random_seed and min_length; 0.20.0 and 0.21.0, of which nothing was read."""
