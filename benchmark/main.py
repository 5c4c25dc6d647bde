"""The command line of scripts/bench."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

from benchmark import shapes, side_report
from benchmark.document import replace
from benchmark.load import HTTP_PATHS, PATHS
from benchmark.plot import draw
from benchmark.report import Options, Report, merged
from benchmark.service import BenchError
from benchmark.suite import PARTS, run
from bento_trtllm.engines.openvino.options import Precision
from tests.support.launcher import ROOT

T = TypeVar("T")
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmark" / "results"
EPILOG = """
parts:
  table    every path at every number of streams, as fast as the engine gives tokens (with --rate: paced)
  first    64 streams at 20 tokens a second each: what the gateway adds to the time to the first token
  openvino the demo model on the OpenVINO engine, 64 streams
  workers  64 streams with 1, 2, 4 and 8 workers, as far as there are cores
  slots    64 paced streams on 64 slots with 1, 2, 4 and 8 workers, by turns: the wait for the first token
  idle     1 to 1,000 open streams in which nothing comes: CPU and memory
  length   answers of 1,000 to 100,000 tokens: CPU a token and memory
  startup  from the command to the first token, and what is imported
  stops    30 stops of a service with nothing open, after traffic: how long each takes
  overload 100 and 2,000 clients, refused ones asking again: what is answered, and /readyz; one client beside 500
  scrapes  64 paced streams beside ten scrapes of /metrics a second, 8 workers, and without, by turns
  recovery Triton, the worker and both killed, 30 times each: how long until the service is ready again

paths: """ + ", ".join(PATHS) + """

With --checkpoint, the OpenVINO engine is measured on a real model instead: our whole service over HTTP, the library
alone on the same files, and llama.cpp where --llama-cpp names its llama-batched-bench. --shape writes a checkpoint of
that shape with random weights first.
"""  # fmt: skip


def a_list_of(kind: Callable[[str], T], choices: tuple[str, ...] = ()) -> Callable[[str], list[T]]:
    """An argument with commas in it."""

    def parse(text: str) -> list[T]:
        items = text.split(",")
        if choices and (unknown := [item for item in items if item not in choices]):
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(choices)}")
        return [kind(item) for item in items]

    parse.__name__ = f"list of {kind.__name__}"
    return parse


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure what stands between Triton and a user. Starts what it needs on free ports of 127.0.0.1.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the table's picture, a PNG")
    parser.add_argument(
        "--docs", action="store_true", help="all parts, or --parts; rewrite them in docs and benchmark/results"
    )
    parser.add_argument("--url", help="measure a service that runs already, over HTTP alone")
    parser.add_argument(
        "--engine", choices=("free", "openvino"), default="free", help="free: costs nothing (default); openvino: demo"
    )
    parser.add_argument("--parts", type=a_list_of(str, PARTS), metavar="A,B", help="default table,first")
    parser.add_argument("--startup", action="store_const", dest="parts", const=["startup"], help="--parts startup")
    parser.add_argument("--paths", type=a_list_of(str, PATHS), metavar="A,B", default=list(PATHS))
    parser.add_argument(
        "--streams", type=a_list_of(int), metavar="N,N", help="default 1,16,64,256; 1,8,32 for a checkpoint"
    )
    parser.add_argument("--tokens", type=int, default=500, help="a request (default 500)")
    parser.add_argument("--repeats", type=int, help="rounds of each case (default 5; 3 for a checkpoint)")
    parser.add_argument("--workers", type=int, default=1, help="of the gateway (default 1)")
    parser.add_argument(
        "--rate", type=float, default=0, help="tokens a second a stream, free engine (default: no limit)"
    )
    parser.add_argument("--tokens-per-message", type=int, default=1, help="free engine (default 1, as TensorRT-LLM)")
    model = parser.add_argument_group("a real model")
    model.add_argument("--checkpoint", type=Path, metavar="DIR", help="of a Llama; with --shape, made here")
    model.add_argument("--shape", choices=tuple(shapes.SHAPES), help="the checkpoint's, with random weights")
    model.add_argument(
        "--precision", type=a_list_of(str, get_args(Precision)), metavar="P,P", default=["f16", "int8", "int4"]
    )
    model.add_argument(
        "--lengths", type=a_list_of(_lengths), metavar="IN:OUT,IN:OUT", default=[(128, 64), (2000, 200)], help="tokens"
    )
    model.add_argument("--llama-cpp", type=Path, metavar="FILE", help="llama-batched-bench; llama-quantize is beside")
    return parser


def _lengths(text: str) -> tuple[int, int]:
    prompt, _, answer = text.partition(":")
    return int(prompt), int(answer)


def say(line: str) -> None:
    """Progress; the results alone go to stdout."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = arguments()
    given = parser.parse_args()
    if given.shape and not given.checkpoint:
        parser.error("--shape writes a checkpoint: name its directory by --checkpoint")
    if given.checkpoint and given.engine != "openvino":
        parser.error("--checkpoint goes with --engine openvino")
    if given.checkpoint and (given.docs or given.plot or given.url):
        parser.error("--checkpoint goes with --json alone, not with --docs, --plot or --url")
    if given.checkpoint:
        return side_report.main(given, say)
    if given.url and set(given.paths) & {"bare", "ensemble"}:
        given.paths = [path for path in given.paths if path in HTTP_PATHS]
        given.parts = ["table"]
    options = Options(
        given.engine,
        given.parts or (list(PARTS) if given.docs else ["table", "first"]),
        given.paths,
        given.streams or [1, 16, 64, 256],
        given.tokens,
        given.repeats or 5,
        given.workers,
        given.rate,
        given.tokens_per_message,
        given.url.rstrip("/") if given.url else None,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            report = run(options, Path(folder), say)
        print(report.text())
        write(report, given.json, given.plot)
        if given.docs:
            replace(DOCS / "performance.md", report.markdown())
            write(report, None, DOCS / "performance.png")
            results = RESULTS / "performance.json"
            keep(merged(json.loads(results.read_text("utf-8")), report.as_json()), results)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    return 0


def write(report: Report, data: Path | None, picture: Path | None) -> None:
    if data:
        keep(report.as_json(), data)
    if picture and report.table:
        draw(report.table, picture, report.title())


def keep(results: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
