"""The Triton model `tensorrt_llm` on TensorRT-LLM's PyTorch runtime: NVIDIA's tensors around tensorrt_llm.LLM.

Decoupled: a request gets as many responses as it needs, the last of them with Triton's final flag. Each response holds
the tokens since the one before: output_ids int32 [1, 1, n], sequence_length int32 [1, 1].
"""

from __future__ import annotations

import json
from typing import Any

import log
from arguments import llm_arguments
from intake import Intake
from lora import Lora
from metrics import EngineMetrics
from reply import Reply
from request import EngineRequest, RequestReader
from sampling import Sampling
from settings import EngineSettings
from streams import Streams
from tensorrt_llm import LLM


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine. Raises on anything that keeps it from serving; Triton reports the message."""
        settings = EngineSettings.read(json.loads(args["model_config"])["parameters"])
        self._sampling = Sampling(bool(settings.speculative), settings.guide_end)
        self._lora = Lora(settings.engine_dir)
        self._llm = LLM(**llm_arguments(settings), **self._lora.arguments())
        # How many blocks the KV cache has is said by the first step's statistics.
        self._metrics = EngineMetrics(args["model_name"], 0)
        self._streams = Streams(
            self._llm,
            self._sampling,
            self._lora,
            settings.cancellation_check_s,
            settings.response_pace,
            self._metrics,
            log.error,
        )
        reader = RequestReader(
            engine="pytorch",
            title="PyTorch",
            vocab_size=settings.vocab_size,
            context_length=settings.context_length,
            echo=not settings.exclude_input_in_output,
        )
        self._intake = Intake(reader, self._submit, self._streams.stop)

    def execute(self, requests: list[Any]) -> None:
        """Hand each request on; the responses come from the loop of streams.py."""
        for request in requests:
            self._intake.accept(request)

    def finalize(self) -> None:
        self._streams.close()
        self._metrics.close()
        self._llm.shutdown()

    def _submit(self, request: EngineRequest, reply: Reply, name: str) -> None:
        self._sampling.check(request)
        self._lora.check(request)
        self._streams.submit(request, reply, name)
