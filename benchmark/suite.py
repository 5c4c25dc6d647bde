"""The parts of the benchmark."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmark import growth, overloading, recovering, scraping, starting, stopping
from benchmark.answer import Asker, RemoteAsker, chat_model
from benchmark.engine import Model, pack
from benchmark.report import Options, Report
from benchmark.rounds import Case, Entrant, measure
from benchmark.service import serve
from bento_trtllm.triton_models.shared.cores import cores
from tests.support.launcher import free_port

PARTS = (
    "table",
    "first",
    "openvino",
    "workers",
    "slots",
    "idle",
    "length",
    "startup",
    "stops",
    "recovery",
    "overload",
    "scrapes",
)
# The paced load: 64 readers' pace, one request after another, begun one by one.
FIRST_STREAMS, FIRST_RATE, FIRST_TOKENS, FIRST_STAGGER_S = 64, 20.0, 40, 2.0
WORKER_STREAMS, WORKER_COUNTS = 64, (1, 2, 4, 8)
SLOT_COUNTS = (1, 2, 4, 8)
OPENVINO_STREAMS = 64
IDLE_COUNTS = (1, 100, 1000)
LENGTHS = (1_000, 10_000, 100_000)
STARTS = 3
STOPS = 30
FAULTS = 30
OVERLOADS = 3
BESIDE_WORKERS = (1, 2)

Say = Callable[[str], None]


def run(options: Options, home: Path, say: Say) -> Report:
    """All parts that are asked for, in an empty model store. Raises BenchError."""
    report = Report(options)
    if options.url:
        _remote(report, options.url, say)
        return report
    say("packing the demo model ...")
    model = pack(home, options.engine, options.tokens_per_message)
    if {"table", "first", "length"} & {*options.parts}:
        # Room for all streams, so that the queue for slots is not what is measured.
        most = max(*options.streams, 256)
        with serve(home, workers=options.workers, max_running_requests=most, **_door(options)) as service:
            service.wait_ready()
            asker = Asker(model, service, chat_model(service.url))
            if "table" in options.parts:
                report.table = _table(asker, options, say)
            if "first" in options.parts and options.engine == "free":
                report.first = _first(asker, options, say)
            if "length" in options.parts and options.engine == "free":
                say("long answers ...")
                report.length = growth.lengths(service, asker, LENGTHS)
    if "openvino" in options.parts:
        (home / "openvino").mkdir()
        demo_model = pack(home / "openvino", "openvino")
        report.openvino = _openvino(home / "openvino", demo_model, options, say)
        if "bf16" in Path("/proc/cpuinfo").read_text():
            fast = {"inference_precision": "bf16", "kv_cache_precision": "bf16"}
            report.openvino_bf16 = _openvino(home / "openvino", demo_model, options, say, **fast)
    if "workers" in options.parts:
        report.workers = _workers(home, model, options, say)
    if "slots" in options.parts and options.engine == "free":
        report.slots = _slots(home, model, options, say)
    if "idle" in options.parts and options.engine == "free":
        say("open streams in which nothing comes ...")
        report.idle = growth.idle(home, model, IDLE_COUNTS)
    if "startup" in options.parts:
        say("starts, on the OpenVINO engine ...")
        demo = _demo(home / "demo")
        report.startup = [starting.start(demo) for _ in range(STARTS)]
        report.imports = starting.imports(demo)
    if "stops" in options.parts:
        report.stops = stopping.stops(_demo(home / "stops"), STOPS, say)
    if "overload" in options.parts and options.engine == "free":
        report.overload = overloading.overloads(home, model, options.workers, min(options.repeats, OVERLOADS), say)
        report.beside = [overloading.besides(home, model, workers, say) for workers in BESIDE_WORKERS]
    if "scrapes" in options.parts and options.engine == "free":
        report.scrapes = [scraping.scraped(home, model, options.repeats, say)]
    if "recovery" in options.parts:
        report.recovery = recovering.recoveries(_demo(home / "recovery"), FAULTS, say)
    return report


def _demo(home: Path) -> Path:
    """A store of its own with the demo model on the OpenVINO engine."""
    home.mkdir()
    pack(home, "openvino")
    return home


def _door(options: Options) -> dict[str, Any]:
    """The setting with which Triton has the ensemble, where it is measured."""
    return {"grpc_port": free_port()} if "ensemble" in options.paths else {}


def _paths(options: Options, asker: Asker) -> list[str]:
    return [path for path in options.paths if path != "chat" or asker.chat_model]


def _table(asker: Asker, options: Options, say: Say) -> list[Case]:
    cases: list[Case] = []
    asker.model.set_rate(options.rate)
    for streams in options.streams:
        loads = [asker.load(path, streams, options.tokens) for path in _paths(options, asker)]
        entrants = [Entrant(asker.service, load, options.workers) for load in loads]
        cases += measure(entrants, options.repeats, rate=options.rate, say=say)
    return cases


def _first(asker: Asker, options: Options, say: Say) -> list[Case]:
    asker.model.set_rate(FIRST_RATE)
    loads = [
        asker.load(path, FIRST_STREAMS, FIRST_TOKENS, FIRST_STAGGER_S)
        for path in _paths(options, asker)
        if path != "ensemble"
    ]
    entrants = [Entrant(asker.service, load, options.workers) for load in loads]
    return measure(entrants, options.repeats, rate=FIRST_RATE, say=say)


def _openvino(home: Path, model: Model, options: Options, say: Say, **settings: Any) -> list[Case]:
    with serve(home, **settings, **_door(options)) as service:
        service.wait_ready()
        asker = Asker(model, service, chat_model(service.url))
        loads = [asker.load(path, OPENVINO_STREAMS, options.tokens) for path in _paths(options, asker)]
        return measure([Entrant(service, load) for load in loads], options.repeats, say=say)


def _workers(home: Path, model: Model, options: Options, say: Say) -> list[Case]:
    cases: list[Case] = []
    model.set_rate(0)
    for count in WORKER_COUNTS:
        if count > max(2, cores()):
            break
        say(f"workers: {count} ...")
        with serve(home, workers=count) as service:
            service.wait_ready()
            asker = Asker(model, service, "")
            loads = [asker.load(path, WORKER_STREAMS, options.tokens) for path in ("bare", "text", "sse")]
            cases += measure([Entrant(service, load, count) for load in loads], options.repeats, say=say)
    return cases


def _slots(home: Path, model: Model, options: Options, say: Say) -> list[Case]:
    """As many slots as streams, and each stream asks again at once: whoever waits for a slot does so needlessly.

    All services run at once, and take turns.
    """
    model.set_rate(FIRST_RATE)
    with ExitStack() as stack:
        entrants: list[Entrant] = []
        for count in SLOT_COUNTS:
            service = stack.enter_context(serve(home, workers=count, max_running_requests=FIRST_STREAMS))
            service.wait_ready()
            load = Asker(model, service, "").load("sse", FIRST_STREAMS, FIRST_TOKENS, FIRST_STAGGER_S)
            entrants.append(Entrant(service, load, count))
        return measure(entrants, options.repeats, rate=FIRST_RATE, say=say)


def _remote(report: Report, url: str, say: Say) -> None:
    options = report.options
    asker = RemoteAsker(url, chat_model(url))
    paths = [path for path in options.paths if path != "chat" or asker.chat_model]
    for streams in options.streams:
        loads = [asker.load(path, streams, options.tokens) for path in paths]
        report.table += measure([Entrant(None, load, options.workers) for load in loads], options.repeats, say=say)
