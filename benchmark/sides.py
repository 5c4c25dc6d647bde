"""The OpenVINO engine on a checkpoint, side by side: our whole service, the library alone, and llama.cpp."""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from benchmark import starting
from benchmark.answer import chat_model
from benchmark.engine import TAG
from benchmark.http_stream import Connection, request
from benchmark.library import SETTINGS, Batch, Library, Timing, prompts, words
from benchmark.llama_cpp import LlamaCpp
from benchmark.service import BenchError, Service, serve
from bento_trtllm.checkpoint.checkpoint import read_checkpoint
from bento_trtllm.config import default_workers
from bento_trtllm.triton_models.shared.cores import cores
from tests.support.launcher import ROOT, environment

MB = 1_000_000
READY = re.compile(r"Triton is ready after ([\d.]+) s")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the command line says."""

    checkpoint: Path
    precisions: list[str]
    streams: list[int]
    lengths: list[tuple[int, int]]
    """Tokens of the prompt and of the answer."""
    repeats: int
    llama_cpp: Path | None


@dataclass
class Point:
    """One load, answered by each; a Timing a round."""

    precision: str
    batch: Batch
    ours: list[Timing] = field(default_factory=list)
    library: dict[str, list[Timing]] = field(default_factory=dict)
    """By its settings."""
    llama_cpp: list[Timing] = field(default_factory=list)


@dataclass(frozen=True)
class Rest:
    """A service that has just been started. Memory is in megabytes, proportional where processes share it."""

    precision: str
    weights_mb: float
    """Their file."""
    memory_mb: float
    """Of all processes, before the first request: the KV cache has no memory yet."""
    engine_mb: float
    """Of the process that computes, alone."""
    load_s: float
    library_load_s: float
    first_token_s: float
    """From the command."""


@dataclass
class Sides:
    """What was found."""

    points: list[Point] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)


def run(wanted: Wanted, home: Path, say: Say, found: Callable[[Sides], None]) -> Sides:
    """Each precision after the other, in an empty folder; `found` is called with what there is. Raises BenchError."""
    sides = Sides()
    llama = LlamaCpp(wanted.llama_cpp, wanted.checkpoint, home) if wanted.llama_cpp else None
    for precision in wanted.precisions:
        say(f"{precision}: packing ...")
        store = home / precision
        store.mkdir()
        _pack(store, wanted.checkpoint, precision)
        beside = llama if llama and llama.prepare(precision) else None
        _side_by_side(precision, wanted, store, beside, sides, say)
        found(sides)
    return sides


def _pack(store: Path, checkpoint: Path, precision: str) -> None:
    argv = [sys.executable, "pack_model.py", "openvino", "--checkpoint", str(checkpoint.resolve())]
    argv += ["--precision", precision, "--tag", TAG]
    done = subprocess.run(argv, cwd=ROOT, env=environment(store), check=False, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"packing ended with {done.returncode}"]
        raise BenchError(said[-1].removeprefix("error: "))


def _side_by_side(precision: str, wanted: Wanted, store: Path, llama: LlamaCpp | None, sides: Sides, say: Say) -> None:
    weights = next((store / "models").rglob("openvino_model.bin"))
    first_token_s = starting.start(store).first_token
    vocabulary = words(read_checkpoint(wanted.checkpoint, str(wanted.checkpoint)).config.vocab_size)
    largest = Batch(max(wanted.streams), *map(max, zip(*wanted.lengths, strict=True)))
    with ExitStack() as stack:
        service = stack.enter_context(serve(store, workers=default_workers(cores())))
        service.wait_ready()
        time.sleep(1)
        memory = sum(_proportional_mb(p) for p in service.processes())
        engine = sum(_proportional_mb(p) for p in service.groups()["stubs"])
        (load_s, *_) = READY.findall(service.log.read_text("utf-8", errors="replace"))
        libraries = {name: stack.enter_context(Library(weights.parent, precision, name, largest)) for name in SETTINGS}
        sides.rests.append(
            Rest(
                precision,
                weights.stat().st_size / MB,
                memory,
                engine,
                float(load_s),
                min(library.load_s for library in libraries.values()),
                first_token_s,
            )
        )
        for prompt, tokens in wanted.lengths:
            for streams in wanted.streams:
                point = Point(precision, Batch(streams, prompt, tokens, vocabulary))
                for repeat in range(wanted.repeats):
                    _turn(point, service, libraries, llama)
                    best = max(timings[-1].tok_s for timings in point.library.values())
                    say(
                        f"{precision}, {prompt} in, {tokens} out, {streams} streams, {repeat + 1} of {wanted.repeats}: "
                        f"{point.ours[-1].tok_s:,.0f} tok/s, {point.ours[-1].tok_s / best:.2f} of the library's"
                    )
                sides.points.append(point)


def _turn(point: Point, service: Service, libraries: dict[str, Library], llama: LlamaCpp | None) -> None:
    """A round of each, one after the other.

    Each makes a short one right before: after the time that the others took, a first step takes longer (that of 2.5 GB
    of weights on two cores a quarter of a second).
    """
    short = replace(point.batch, prompt=min(32, point.batch.prompt), tokens=min(8, point.batch.tokens))
    asyncio.run(ask(service, short))
    point.ours.append(asyncio.run(ask(service, point.batch)))
    for name, library in libraries.items():
        library.put_on(short)
        point.library.setdefault(name, []).append(library.put_on(point.batch))
    if llama:
        point.llama_cpp.append(llama.put_on(point.precision, point.batch))


async def ask(service: Service, batch: Batch) -> Timing:
    """One batch over HTTP, streamed. Raises BenchError for an answer that is not whole."""
    host, _, port = service.host.rpartition(":")
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Connection, host, int(port)))[1] for _ in range(batch.streams)]
    body: dict[str, object] = {
        "model": chat_model(service.url),
        "max_tokens": batch.tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    messages = [
        request(service.host, "/v1/completions", {**body, "prompt": ids}, "text/event-stream") for ids in prompts(batch)
    ]
    began = time.monotonic()
    try:
        await asyncio.gather(*(each.ask(text) for each, text in zip(connections, messages, strict=True)))
    except OSError as error:
        raise BenchError(f"an answer failed: {error}") from error
    finally:
        for connection in connections:
            connection.close()
    if odd := [each.completion_tokens for each in connections if each.completion_tokens != batch.tokens]:
        raise BenchError(f"an answer had {odd[0]} tokens where {batch.tokens} were asked for")
    times = [[at - began for at in (each.arrivals[0], each.arrivals[-1])] for each in connections]
    return Timing.of(batch.tokens, [first for first, _ in times], [last for _, last in times])


def _proportional_mb(process: psutil.Process) -> float:
    """Shared pages are divided among those who share them; 0 for a process that is gone."""
    try:
        return float(process.memory_full_info().pss) / MB
    except psutil.Error:
        return 0.0


def median(timings: Sequence[Timing], name: str) -> float:
    """Over the rounds."""
    return float(statistics.median(getattr(timing, name) for timing in timings))


def best(point: Point, name: str) -> float:
    """The best of the library's settings: the fastest, or the one whose first token comes first."""
    values = [median(timings, name) for timings in point.library.values()]
    return min(values) if name == "first_s" else max(values)


HEAD = (
    "weights", "in/out", "streams", "tok/s", "library", "ratio", "decode tok/s", "library", "ratio", "first ms",
    "library", "llama.cpp tok/s", "ratio", "its decode", "ratio", "its first ms",
)  # fmt: skip
REST_HEAD = (
    "weights", "file MB", "at rest MB", "engine alone MB", "engine ÷ file", "Triton loads s", "library loads s",
    "first token s",
)  # fmt: skip


def rows(sides: Sides) -> list[tuple[str, ...]]:
    table = []
    for point in sides.points:
        row = [point.precision, f"{point.batch.prompt:,}/{point.batch.tokens}", str(point.batch.streams)]
        for name in ("tok_s", "decode_tok_s"):
            ours, library = median(point.ours, name), best(point, name)
            row += [f"{ours:,.0f}", f"{library:,.0f}", _ratio(ours, library)]
        row += [f"{1000 * median(point.ours, 'first_s'):,.0f}", f"{1000 * best(point, 'first_s'):,.0f}"]
        for name in ("tok_s", "decode_tok_s") if point.llama_cpp else ():
            its = median(point.llama_cpp, name)
            row += [f"{its:,.0f}", _ratio(median(point.ours, name), its)]
        row += [f"{1000 * median(point.llama_cpp, 'first_s'):,.0f}"] if point.llama_cpp else ["–"] * 5
        table.append(tuple(row))
    return table


def _ratio(ours: float, others: float) -> str:
    return f"{ours / others:.2f}" if others else "–"


def rest_rows(sides: Sides) -> list[tuple[str, ...]]:
    return [
        (
            rest.precision,
            f"{rest.weights_mb:,.0f}",
            f"{rest.memory_mb:,.0f}",
            f"{rest.engine_mb:,.0f}",
            f"{rest.engine_mb / rest.weights_mb:.2f}",
            f"{rest.load_s:.1f}",
            f"{rest.library_load_s:.1f}",
            f"{rest.first_token_s:.1f}",
        )
        for rest in sides.rests
    ]


def as_json(sides: Sides) -> str:
    return json.dumps(sides, default=vars, indent=1)
