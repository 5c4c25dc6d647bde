"""The Triton model `tensorrt_llm` on OpenVINO GenAI: NVIDIA's tensors, in-flight batching, any x86-64 CPU.

Decoupled: a request gets as many responses as it needs, the last of them with Triton's final flag. Each
response holds the tokens since the one before: output_ids int32 [1, 1, n], sequence_length int32 [1, 1].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import log
import numpy as np
import openvino_genai as genai
import triton_python_backend_utils as pb_utils
from batcher import INVALID, Batcher, Piece
from compiler import GuideCompiler
from engine_file import openable
from generation import RequestError, parse
from metrics import EngineMetrics
from settings import EngineSettings

# A request that arrives during a step waits no longer than this for Python's lock after it.
SWITCH_INTERVAL_S = 0.0005


class TritonReply:
    """A request's response sender, and which outputs the request asked for."""

    def __init__(self, request: Any, prompt: np.ndarray[Any, np.dtype[np.int64]] | None = None) -> None:
        self._sender = request.get_response_sender()
        self._wanted = list(request.requested_output_names())
        self.prompt = prompt
        self.input_tokens = 0

    def send(self, piece: Piece, final: bool) -> None:
        tensors = [pb_utils.Tensor(name, self._value(name, piece)) for name in self._wanted]
        self._sender.send(
            pb_utils.InferenceResponse(output_tensors=tensors),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0,
        )

    def _value(self, name: str, piece: Piece) -> np.ndarray[Any, Any]:
        """One output of a response, [1, 1] or, what has an element a token, [1, 1, n]."""
        prompt = () if self.prompt is None else self.prompt
        match name:
            case "output_ids":
                return np.array([[[*prompt, *piece.tokens]]], np.int32)
            case "output_log_probs":
                return np.array([[piece.log_probs]], np.float32)
            case "cum_log_probs":
                return np.array([[piece.cum_log_prob]], np.float32)
            case "sequence_length":
                return np.array([[len(prompt) + len(piece.tokens)]], np.int32)
            case "num_output_tokens":
                return np.array([[len(piece.tokens)]], np.int32)
            case "num_input_tokens":
                return np.array([[self.input_tokens]], np.int32)
            case "sequence_index":
                return np.array([[piece.index]], np.int32)
            case _:  # batch_index, the last of the model's outputs: a request has one prompt
                return np.array([[0]], np.int32)

    def refuse(self, message: str) -> None:
        """End the request, whose own fault that is."""
        self.fail(f"{INVALID}{message}")

    def fail(self, message: str) -> None:
        error = pb_utils.TritonError(message)
        self._sender.send(
            pb_utils.InferenceResponse(output_tensors=[], error=error),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        )

    def end(self) -> None:
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine. Raises on anything that keeps it from serving; Triton reports the message."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._settings = settings = EngineSettings.read(json.loads(args["model_config"])["parameters"])
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = settings.num_kv_blocks()
        scheduler.max_num_batched_tokens = settings.prefill_tokens()
        scheduler.max_num_seqs = settings.max_num_sequences
        scheduler.dynamic_split_fuse = settings.enable_chunked_context
        # Off in 2026.4.1 unless asked for, and wrong: settings.py.
        scheduler.enable_prefix_caching = False
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": settings.inference_precision,
            "KV_CACHE_PRECISION": settings.kv_cache_precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": settings.dynamic_quantization_group_size,
        }
        if settings.threads:
            properties["INFERENCE_NUM_THREADS"] = settings.threads
        (engine,) = settings.engine_dir.glob("*.gguf")
        # The working directory goes with Triton, and "" is a name without the é that those above it may have.
        with openable(engine, Path()) as file:
            tokenizer = genai.Tokenizer(str(file))
            pipeline = genai.ContinuousBatchingPipeline(str(file), tokenizer, scheduler, "CPU", **properties)
        log.info(f"{engine.name}: KV cache of {scheduler.num_kv_blocks} blocks of 32 tokens")
        metrics = EngineMetrics(args["model_name"], scheduler.num_kv_blocks)
        check_s = settings.cancellation_check_period_ms / 1000
        self._batcher = Batcher(pipeline, check_s, log.error, metrics.update)
        self._guides = GuideCompiler(tokenizer, settings.vocab_size, self._batcher.submit, self._batcher.between_steps)

    def execute(self, requests: list[Any]) -> None:
        """Hand each request to the batch; the responses come from its loop."""
        for request in requests:
            self._accept(request)

    def finalize(self) -> None:
        # The compiler may wait for the batcher, which lets it go.
        self._batcher.close()
        self._guides.close()

    def _accept(self, request: Any) -> None:
        reply = TritonReply(request)

        def tensor(name: str) -> Any:
            found = pb_utils.get_input_tensor_by_name(request, name)
            return None if found is None else found.as_numpy()

        stop = tensor("stop")
        if stop is not None and stop.any():
            self._guides.stop(request.request_id())
            self._batcher.stop(request.request_id())
            reply.end()
            return
        try:
            parsed = parse(
                tensor,
                vocab_size=self._settings.vocab_size,
                context_length=self._settings.context_length,
                echo=not self._settings.exclude_input_in_output,
            )
        except RequestError as error:
            reply.refuse(str(error))
            return
        reply.input_tokens = len(parsed.prompt)
        if parsed.echo and not parsed.streaming:
            reply.prompt = parsed.prompt
        submit = self._guides.submit if parsed.guide else self._batcher.submit
        submit(parsed, reply, request.request_id())
