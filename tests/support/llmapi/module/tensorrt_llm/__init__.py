"""tensorrt_llm as our Triton model sees it; see tests/support/llmapi."""

from contract import DATA, exported

from tensorrt_llm.llmapi import LLM, SamplingParams

__all__ = ["LLM", "SamplingParams"]
exported("", *__all__)
__version__ = DATA["version"]
