"""What can be said of an OpenVINO engine when it is packed; how it runs is in config.py."""

from typing import Literal

from pydantic import Field

from bento_trtllm.engines.options import EngineOptions


class OpenVINOOptions(EngineOptions):
    """For any x86-64 Linux CPU: a GGUF file that OpenVINO GenAI runs."""

    precision: Literal["f16", "q8_0"] = Field("f16", description="Of the engine's weights; q8_0 is half the size.")
