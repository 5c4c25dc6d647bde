"""The Triton model `tensorrt_llm` on OpenVINO GenAI: NVIDIA's tensors, in-flight batching, any x86-64 CPU.

Decoupled: a request gets as many responses as it needs, the last of them with Triton's final flag. Each
response holds the tokens since the one before: output_ids int32 [1, 1, n], sequence_length int32 [1, 1].
"""

from __future__ import annotations

import faulthandler
import json
import sys
from typing import Any

import lean  # noqa: F401 - before OpenVINO
import log
import openvino_genai as genai
from batcher import Batcher
from compiler import GuideCompiler
from gathering import Gathering
from intake import Intake
from limits import BOUNDS, check
from metrics import EngineMetrics
from reply import Reply
from request import EngineRequest, RequestReader
from room import Room
from scorer import Scorer
from settings import BLOCK_TOKENS, OpenVINOSettings
from warm import let_go, warm

# A request that arrives during a step waits no longer than this for Python's lock after it.
SWITCH_INTERVAL_S = 0.0005
WEIGHTS = "openvino_model.bin"


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine. Raises on anything that keeps it from serving; Triton reports the message."""
        # What a fault in the library was asked for is in the log then; Triton tells only that the process has ended.
        faulthandler.enable()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        settings = OpenVINOSettings.read(json.loads(args["model_config"])["parameters"])
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = settings.num_kv_blocks()
        scheduler.max_num_batched_tokens = settings.prefill_tokens()
        scheduler.max_num_seqs = settings.max_num_sequences
        scheduler.dynamic_split_fuse = settings.enable_chunked_context
        # Off in 2026.4.1 unless asked for, and wrong: settings.py.
        scheduler.enable_prefix_caching = False
        properties = settings.precisions.properties()
        if threads := settings.inference_threads():
            properties["INFERENCE_NUM_THREADS"] = threads
        computed = dict(properties)
        if settings.prompt_lookup:
            properties["prompt_lookup"] = True
        engine = str(settings.engine_dir)
        tokenizer = genai.Tokenizer(engine)
        pipeline = genai.ContinuousBatchingPipeline(engine, tokenizer, scheduler, "CPU", **properties)
        log.info(f"KV cache of {scheduler.num_kv_blocks} blocks of {BLOCK_TOKENS} tokens; {properties}")
        self._metrics = EngineMetrics(args["model_name"], scheduler.num_kv_blocks, BLOCK_TOKENS)
        check_s = settings.cancellation_check_period_ms / 1000
        self._guessed = settings.prompt_lookup
        warm(pipeline, self._guessed)
        let_go(settings.engine_dir / WEIGHTS)
        room = Room(scheduler.num_kv_blocks, BLOCK_TOKENS, self._guessed)
        gathering = Gathering(scheduler.max_num_batched_tokens)
        self._batcher = Batcher(
            pipeline, check_s, settings.response_pace, log.error, self._metrics.update, room, gathering, self._guessed
        )
        self._guides = GuideCompiler(tokenizer, settings.vocab_size, self._batcher.submit, self._batcher.between_steps)
        self._scorer = Scorer(settings.engine_dir, computed, log.error)
        reader = RequestReader(
            engine="openvino",
            title="OpenVINO",
            vocab_size=settings.vocab_size,
            context_length=settings.context_length,
            echo=not settings.exclude_input_in_output,
            bounds=BOUNDS,
        )
        self._intake = Intake(reader, self._submit, self._look)

    def execute(self, requests: list[Any]) -> None:
        """Hand each request to the batch; the responses come from its loop."""
        for request in requests:
            self._intake.accept(request)

    def finalize(self) -> None:
        # The compiler may wait for the batcher, which lets it go.
        self._batcher.close()
        self._guides.close()
        self._scorer.close()
        self._metrics.close()

    def _submit(self, request: EngineRequest, reply: Reply) -> None:
        check(request, self._guessed)
        if request.top_log_probs or request.prompt_log_probs is not None:
            reply = self._scorer.take(request, reply)
            if not request.max_tokens:
                return
        (self._guides if request.guide else self._batcher).submit(request, reply)

    def _look(self) -> None:
        self._guides.look()
        self._batcher.look()
        self._scorer.look()
