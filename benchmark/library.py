"""The library alone: `python -m benchmark.library ENGINE_DIR SETTINGS PROPERTIES` answers with nothing around it.

A process of its own around OpenVINO GenAI's ContinuousBatchingPipeline on a pack's own files. It writes a line when it
has loaded, then reads a Batch a line and writes a Timing a line.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from benchmark.service import BenchError
from bento_trtllm.engines.openvino.fastest import default_precisions
from tests.support.launcher import ROOT, bound

OUR_TYPES = "our types"
SETTINGS: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "long steps": {"max_num_batched_tokens": 2048},
    OUR_TYPES: {"max_num_batched_tokens": 2048},
}
"""Of its scheduler, by name; with the last, it computes in the types that our service does. What is best depends on the
load: at each point, the best of them is what counts."""
BLOCK_TOKENS = 32
FIRST_WORD, WORDS = 300, 20_000
"""Ids of ordinary tokens, in the vocabulary of any model of the size that is worth to be measured."""
SPECIALS = 256
"""As many as Llama 3 has at the end of its vocabulary."""


@dataclass(frozen=True)
class Batch:
    """Requests that begin at once: so many prompts of so many tokens, each with an answer of so many."""

    streams: int
    prompt: int
    tokens: int
    vocabulary: int = WORDS
    """Ids below it may be in a prompt."""


@dataclass(frozen=True)
class Timing:
    """How a batch went, whoever answered it. Seconds are since all requests were sent."""

    tok_s: float
    """Tokens of all answers, over the time to the last of them."""
    decode_tok_s: float
    """The sum over the streams of what comes after the first token, over the time that it took to come; a stream whose
    tokens came at once has no part in it."""
    first_s: float
    """Median over the streams."""

    @classmethod
    def of(cls, tokens: int, first: list[float], last: list[float]) -> Self:
        """From each stream's times; all have as many tokens."""
        times = [end - begin for begin, end in zip(first, last, strict=True)]
        rates = [(tokens - 1) / time for time in times if time]
        return cls(tokens * len(last) / max(last), sum(rates), sorted(first)[len(first) // 2])


def words(vocabulary: int) -> int:
    """`Batch.vocabulary` for a model with so many tokens. Raises BenchError."""
    if vocabulary - SPECIALS <= FIRST_WORD:
        raise BenchError(f"a vocabulary of {vocabulary} tokens is too small: {FIRST_WORD + SPECIALS + 1} are needed")
    return min(WORDS, vocabulary - SPECIALS)


def prompts(batch: Batch) -> list[list[int]]:
    """Ids of ordinary tokens, no two prompts alike."""
    count = batch.vocabulary - FIRST_WORD
    line = [FIRST_WORD + (i * 7919) % count for i in range(batch.prompt + batch.streams)]
    return [line[i : i + batch.prompt] for i in range(batch.streams)]


class Library:
    """The process, with one of SETTINGS."""

    def __init__(self, engine: Path, precision: str, settings: str, largest: Batch) -> None:
        """`precision` is that of the weights. Raises BenchError if it cannot load."""
        blocks = largest.streams * ((largest.prompt + largest.tokens) // BLOCK_TOKENS + 2)
        given = json.dumps({"num_kv_blocks": blocks, **SETTINGS[settings]})
        properties = json.dumps(default_precisions(precision).properties() if settings == OUR_TYPES else {})
        argv = [sys.executable, "-m", "benchmark.library", str(engine), given, properties]
        # Like the service, in a session of its own: Linux shares its cores out between sessions.
        self._process = subprocess.Popen(
            bound(argv), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.load_s = float(self._line()["load_s"])

    def put_on(self, batch: Batch) -> Timing:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(batch)) + "\n")
        self._process.stdin.flush()
        return Timing(**self._line())

    def _line(self) -> dict[str, float]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the library alone ended; what it wrote is above")
        found: dict[str, float] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(engine: str, settings: dict[str, Any], properties: dict[str, Any]) -> None:
    import openvino_genai as genai  # noqa: PLC0415

    scheduler = genai.SchedulerConfig()
    for name, value in settings.items():
        setattr(scheduler, name, value)
    began = time.monotonic()
    pipeline = genai.ContinuousBatchingPipeline(engine, genai.Tokenizer(engine), scheduler, "CPU", **properties)
    print(json.dumps({"load_s": time.monotonic() - began}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(answer(pipeline, Batch(**json.loads(line))))), flush=True)


def answer(pipeline: Any, batch: Batch) -> Timing:
    """One batch, as fast as the library steps."""
    import numpy as np  # noqa: PLC0415
    import openvino as ov  # noqa: PLC0415
    import openvino_genai as genai  # noqa: PLC0415

    config = genai.GenerationConfig()
    config.max_new_tokens = batch.tokens
    config.ignore_eos = True
    config.do_sample = False
    began = time.monotonic()
    handles = [
        pipeline.add_request(i, ov.Tensor(np.array([ids], np.int64)), config) for i, ids in enumerate(prompts(batch))
    ]
    first, last = [0.0] * batch.streams, [0.0] * batch.streams
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now = time.monotonic() - began
        for i, handle in enumerate(handles):
            if handle.can_read():
                handle.read()
                first[i], last[i] = first[i] or now, now
    return Timing.of(batch.tokens, first, last)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]))
