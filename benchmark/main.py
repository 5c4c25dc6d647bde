"""The command line of scripts/bench."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmark.answer import Asker, chat_model
from benchmark.engine import pack
from benchmark.load import PATHS
from benchmark.rounds import Case, measure
from benchmark.service import BenchError, serve
from benchmark.table import HEAD, noise, rows, text


def say(line: str) -> None:
    """Progress; the results alone go to stdout."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the way from Triton to the user.")
    parser.add_argument("--engine", choices=("free", "openvino"), default="free")
    parser.add_argument("--streams", type=lambda t: [*map(int, t.split(","))], default=[1, 16, 64, 256])
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--paths", type=lambda t: t.split(","), default=[*PATHS])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            home = Path(folder)
            say("packing ...")
            model = pack(home, options.engine)
            with serve(home, workers=options.workers) as service:
                service.wait_ready()
                asker = Asker(model, service, chat_model(service.url))
                paths = [p for p in options.paths if p != "chat" or asker.chat_model]
                cases: list[Case] = []
                for streams in options.streams:
                    loads = [asker.load(path, streams, options.tokens) for path in paths]
                    model.set_rate(options.rate)
                    cases += measure(service, loads, options.repeats, workers=options.workers, say=say)
                print(text(HEAD, rows(cases)))
                print(noise(cases))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    return 0
