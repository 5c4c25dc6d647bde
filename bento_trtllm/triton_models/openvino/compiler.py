"""Guides are compiled here, beside the step loop: in a step, a large one would hold everybody up for seconds.

OpenVINO GenAI 2026.4.1 compiles a request's guide when it first samples for it, in `step`, and has no other call for
it. It keeps what it compiled in the tokenizer, by the guide's text. So a pipeline of its own, which shares the
tokenizer and whose model is blank, samples one token with the guide, in a thread of low priority (`generate` lets go of
Python's lock, and xgrammar's own threads inherit the priority); the batch then finds it compiled.

It also keeps it for ever: all of it is dropped at once when its guides pass KEPT_CHARACTERS. It belongs to a vocabulary
size, and a pipeline of another size makes GenAI begin anew.

GenAI notes the time that each guided request's first step took in a list without a lock, which `generate` empties, and
keeps what it compiled in an object that it replaces without one. A batch that begins a guided request in the very
microsecond in which a compilation begins or ends would break that list, if it grew then: the first guide makes it as
long as it mostly gets, before the batch has any. The object is replaced between two steps alone.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
from blank import write_blank
from faults import GONE, UNAVAILABLE, Fault
from guide import TEXT, Guide
from intake import Submit
from reply import Reply
from request import EngineRequest
from sequence import structure

NICE = 10
# Some 150 MB with a vocabulary of 128,256 (measured: 0.6 kB a character).
KEPT_CHARACTERS = 2**18
# Any vocabulary size but a model's.
OTHER_SIZE = 8
NOTED = 64
"""Guided requests that begin between two compilations: mostly fewer."""

Waiting = tuple[int, int, EngineRequest, Reply]


class GuideCompiler:
    """Takes guided requests, and hands them on once their guides are compiled; the shortest guide first."""

    def __init__(
        self,
        tokenizer: genai.Tokenizer,
        vocab_size: int,
        submit: Submit,
        between_steps: Callable[[Callable[[], None]], None],
    ) -> None:
        """`between_steps` has something done in the batch's thread while no request waits to begin there."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._submit = submit
        self._between_steps = between_steps
        self._wake = threading.Condition()
        self._waiting: list[Waiting] = []
        self._count = 0
        self._known: set[Guide] = set()
        self._kept = 0
        self._closing = False
        # Here and not at the first guide: loading a pipeline holds Python's lock.
        self._pipeline = self._blank(vocab_size)
        self._other = self._blank(OTHER_SIZE)
        self._thread = threading.Thread(target=self._run, name="guides")
        self._thread.start()

    def submit(self, request: EngineRequest, reply: Reply) -> None:
        """Take a request with a guide."""
        assert request.guide
        with self._wake:
            if request.guide not in self._known:
                self._count += 1
                heappush(self._waiting, (len(request.guide.text), self._count, request, reply))
                self._wake.notify()
                return
        self._submit(request, reply)

    def look(self) -> None:
        """End the waiting requests whose clients have said that they left."""
        with self._wake:
            left = [reply for *_, reply in self._waiting if reply.left]
            self._waiting = sorted(one for one in self._waiting if one[-1] not in left)
        for reply in left:
            reply.end(GONE)

    def close(self) -> None:
        """End the thread, and the requests that wait."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        for *_, reply in self._waiting:
            reply.end(Fault(UNAVAILABLE, "The server is stopping."))

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._wake:
                while not (self._waiting or self._closing):
                    self._wake.wait()
                if self._closing:
                    return
                *_, request, reply = heappop(self._waiting)
            if reply.is_cancelled():
                reply.end(GONE)
            elif fault := self._compile(request):
                reply.refuse(TEXT, f"{TEXT} cannot be compiled: {fault}")
            else:
                self._submit(request, reply)

    def _compile(self, request: EngineRequest) -> str | None:
        """What is wrong with a request's guide, which is kept otherwise."""
        guide = request.guide
        assert guide
        if guide in self._known:
            return None
        if self._kept + len(guide.text) > KEPT_CHARACTERS:
            self._drop()
        try:
            _sample(self._pipeline, guide, next(iter(request.end_ids)), 1 if self._known else NOTED)
        except RuntimeError as error:
            # It keeps its broken request.
            self._pipeline = self._blank(self._vocab_size)
            return str(error).strip().splitlines()[-1]
        with self._wake:
            self._known.add(guide)
            self._kept += len(guide.text)
        return None

    def _drop(self) -> None:
        """Free what is kept. Requests that come from now on wait for this thread."""
        with self._wake:
            self._known.clear()
        self._kept = 0

        def replace() -> None:
            _sample(self._other)
            _sample(self._pipeline)

        self._between_steps(replace)

    def _blank(self, vocab_size: int) -> genai.ContinuousBatchingPipeline:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 2
        with tempfile.TemporaryDirectory() as directory:
            write_blank(Path(directory), vocab_size)
            return genai.ContinuousBatchingPipeline(
                directory, self._tokenizer, scheduler, "CPU", INFERENCE_NUM_THREADS=1
            )


def _sample(
    pipeline: genai.ContinuousBatchingPipeline, guide: Guide | None = None, end: int = 1, times: int = 1
) -> None:
    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.stop_token_ids, config.eos_token_id = {end}, end
    if guide:
        config.structured_output_config = structure(guide)
    pipeline.generate([ov.Tensor(np.array([[0]], np.int64))] * times, [config] * times)
