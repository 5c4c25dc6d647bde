"""The Triton model `tensorrt_llm` on TensorRT-LLM's PyTorch runtime: NVIDIA's tensors around tensorrt_llm.LLM.

Decoupled: a request gets as many responses as it needs, the last of them with Triton's final flag. Each response holds
the tokens since the one before: output_ids int32 [1, 1, n], sequence_length int32 [1, 1].
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import log
import numpy as np
from active import Active
from arguments import llm_arguments
from intake import Intake
from lora import Lora
from metrics import EngineMetrics
from reply import Reply
from request import EngineRequest, RequestReader
from sampling import SamplingTranslator
from settings import PyTorchSettings
from streams import Streams
from tensorrt_llm import LLM


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine. Raises on anything that keeps it from serving; Triton reports the message."""
        settings = PyTorchSettings.read(json.loads(args["model_config"])["parameters"])
        self._sampling = SamplingTranslator(bool(settings.speculative), settings.guide_end)
        self._lora = Lora(settings.engine_dir)
        self._llm = LLM(**llm_arguments(settings), **self._lora.arguments())
        # How many blocks the KV cache has is said by the first step's statistics.
        self._metrics = EngineMetrics(args["model_name"], 0)
        self._streams = Streams(
            self._llm,
            self._generate,
            settings.cancellation_check_s,
            settings.response_pace,
            self._metrics,
            log.error,
        )
        try:
            self._streams.prime(self._first_tokens())
        except Exception:
            # Else the threads of both keep this process from ending.
            with suppress(Exception):
                self.finalize()
            raise
        reader = RequestReader(
            engine="pytorch",
            title="PyTorch",
            vocab_size=settings.vocab_size,
            context_length=settings.context_length,
            echo=not settings.exclude_input_in_output,
        )
        self._intake = Intake(reader, self._submit, self._streams.look)

    async def _first_tokens(self) -> None:
        """Make a token with the checkpoint, and with each adapter, which is read for its first request.

        TensorRT-LLM tunes kernels and records CUDA graphs while it loads (PyExecutor.__init__ in py_executor.py,
        1.3.0rc3); what else a first step takes is not to be taken for a hang: loading has limits of its own.
        """
        params = self._sampling.params(EngineRequest(prompt=np.zeros(1, np.int64), max_tokens=1), 0)
        for adapter in (None, *self._lora.requests):
            async for _ in self._llm.generate_async([0], params, lora_request=adapter):
                pass

    def execute(self, requests: list[Any]) -> None:
        """Hand each request on; the responses come from the loop of streams.py."""
        for request in requests:
            self._intake.accept(request)

    def finalize(self) -> None:
        self._streams.close()
        self._metrics.close()
        self._llm.shutdown()

    def _submit(self, request: EngineRequest, reply: Reply) -> None:
        self._sampling.check(request)
        self._lora.check(request)
        self._streams.submit(request, reply, self._sampling.end(request))

    def _generate(self, active: Active, index: int) -> Any:
        """Begin one sequence of a request; returns TensorRT-LLM's RequestOutput."""
        request = active.request
        return self._llm.generate_async(
            active.prompt,
            self._sampling.params(request, index),
            lora_request=self._lora.of(request),
            streaming=request.streaming,
        )
