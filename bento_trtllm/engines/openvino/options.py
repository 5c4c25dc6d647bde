"""What can be said of an OpenVINO engine when it is packed; how it runs is in config.py."""

from typing import Literal

from pydantic import Field

from bento_trtllm.engines.options import EngineOptions

Precision = Literal["int8", "int4", "f16", "bf16", "f32"]


class OpenVINOOptions(EngineOptions):
    """For any x86-64 Linux CPU: a model that OpenVINO GenAI runs."""

    precision: Precision = Field(
        "int8",
        description="Of the engine's weights. int4 is half of int8, rounded without calibration data, and answers "
        "otherwise now and then; f16 and bf16 are twice it; f32 is for a model that is to be computed exactly.",
    )
