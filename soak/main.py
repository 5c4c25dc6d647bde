"""The command line of scripts/soak."""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

import httpx
import psutil

from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from soak import alike, memory, public, storm
from soak.margin import Margin
from soak.questions import questions
from tests.support.serving import DEMO, Service, pack, serve

DESCRIPTION = """Drive a real service with the demo model, and count what should be zero.

Without --answers: for --minutes, with two workers, requests of every kind while Triton, its engine or a worker is
killed or stopped at random. Each text is compared, byte for byte, with what the model is known to answer.

With --answers N: N answers to questions whose prompts share their beginnings at every length, on all routes, streamed
and whole, one choice and several, guided and not, beside clients that leave, over restarts of the engine. Each is
compared with the one that the question gets alone.

With --memory MINUTES: a light load, --rate requests a second, of every route and kind, no two alike, and nothing is
broken. What each process has in memory is written to --samples FILE once a minute; --samples FILE alone prints the
table of such a file, of a run that has not ended, too.

With --url URL: such requests to any server with OpenAI's API, greedy, each compared with what its prompt is answered
alone. With --pid PID that process is stopped for two seconds, and killed later: no other is touched. A key is
taken from $OPENAI_API_KEY.

Prints a table in Markdown; exits with 1 if anything in capitals is not zero.
"""
PRECISIONS = {
    "f32": (),
    "bf16": ("inference_precision=bf16", "kv_cache_precision=bf16"),
    "u8": ("kv_cache_precision=u8",),
}
ORPHANS = "ORPHANS"
PERIOD_S = 60.0
"""Between two looks at the memory."""


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--answers", type=int, metavar="N", help="compare this many answers, and break little")
    parser.add_argument("--streams", type=int, help="clients at once (default: 12, and 64 with --answers)")
    parser.add_argument("--restarts", type=int, default=4, help="with --answers: kill Triton or its engine this often")
    parser.add_argument("--precision", choices=PRECISIONS, default="f32", help="with --answers: of the engine")
    parser.add_argument("--url", help="of a server that runs, without /v1: ask it, and start nothing")
    parser.add_argument(
        "--pid", type=int, action="append", default=[], help="with --url: a process to stop and to kill; more than once"
    )
    parser.add_argument("--memory", type=float, metavar="MINUTES", help="watch what a service keeps for so long")
    parser.add_argument("--rate", type=float, default=4, help="with --memory: requests a second")
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="of --memory: a line of JSON for each minute; the service's log is beside it",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table to FILE, too")
    options = parser.parse_args()
    if options.pid and not options.url:
        parser.error("--pid goes with --url: without it, what to kill is chosen here")
    if gone := [pid for pid in options.pid if not psutil.pid_exists(pid)]:
        parser.error(f"--pid {gone[0]}: there is no such process")
    if options.memory and not options.samples:
        parser.error("--memory goes with --samples FILE, for what it finds")
    if options.samples and not options.memory:
        try:
            return show(memory.rows(memory.read(options.samples)), options.output)
        except (OSError, memory.TooFew) as error:
            parser.exit(2, f"error: {options.samples} cannot be shown: {error}\n")
    streams = options.streams or (64 if options.answers else 12)
    settings: tuple[str, ...] = PRECISIONS[options.precision] if options.answers else storm.SETTINGS
    rows: dict[str, object] = {"clients at once": streams, "cores": os.cpu_count()}
    if options.memory:
        settings, rows = ("workers=2",), {"requests a second": f"{options.rate:g}", "cores": os.cpu_count()}
    arguments = [word for setting in settings for word in ("--arg", setting)]
    if options.url:
        try:
            rows |= {"minutes": f"{options.minutes:g}"} | asyncio.run(ask_server(options, streams))
        except public.NotAskable as error:
            parser.exit(2, f"error: {options.url} cannot be tested: {error}\n")
        return show(rows, options.output)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        pack(Path(folder, "home"))
        # Beside what was found, since a run of hours is over when somebody asks why a process ended.
        log = options.samples.with_name(f"{options.samples.name}.log") if options.samples else Path(folder, "log.txt")
        with serve(Path(folder, "home"), log, *arguments, SOAK=folder) as service:
            service.wait_ready()
            if options.memory:
                watch = memory.Watch(service, options.rate, PERIOD_S, options.samples, options.seed)
                asyncio.run(watch.run(options.memory * 60))
                rows |= memory.rows(watch.samples) | dict(sorted(watch.counts.items()))
            elif options.answers:
                run = compare(service, options.precision, options.seed)
                asyncio.run(run.ask_alone())
                asyncio.run(run.ask_among(options.answers, streams, options.restarts))
                rows |= {"precision": options.precision} | run.rows()
            else:
                soak = asyncio.run(storm.run(service, options.minutes, streams, options.seed))
                rows |= {"minutes": f"{options.minutes:g}"} | storm.rows(soak)
        rows[ORPHANS] = orphans(folder)
    return show(rows, options.output)


async def ask_server(options: argparse.Namespace, streams: int) -> dict[str, object]:
    """The rows of a storm against a server that was started elsewhere. Raises NotAskable."""
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=90, limits=limits) as http:
        return (await public.run(http, options.minutes * 60, streams, options.seed, options.pid)).rows()


def show(rows: dict[str, object], output: Path | None) -> int:
    """Print the table; returns the exit code."""
    text = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    print(text)
    if output:
        output.write_text(text + "\n", "utf-8")
    return int(any(value for name, value in rows.items() if name.isupper()))


def compare(service: Service, precision: str = "f32", seed: int = 0, every: int = 1) -> alike.Alike:
    """What compares the answers of a service of the demo model, in this precision, with those given alone.

    To every so-manyth question.
    """
    tokenizer = PromptTokenizer(DEMO)
    llama = Reference.load(DEMO)
    margin = Margin(llama, tokenizer, list(llama.checkpoint.eos_ids))
    asked = questions(tokenizer, ChatTemplate(DEMO, tokenizer))[::every]
    return alike.Alike(service, asked, margin, decisive=alike.DECISIVE[precision], seed=seed)


def orphans(marker: str) -> int:
    """Processes that are left of a service that had SOAK=marker in its environment."""
    count = 0
    for process in psutil.process_iter():
        try:
            count += process.environ().get("SOAK") == marker
        except (psutil.Error, OSError):
            continue
    return count
