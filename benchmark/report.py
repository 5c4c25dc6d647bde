"""What the parts of the benchmark found: tables, the document's sections, and JSON."""

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark import growth, overloading, recovering, scraping, starting, stopping, tables
from benchmark.engine import EngineName
from benchmark.rounds import Case
from bento_trtllm.triton_models.shared.cores import cores

MEASURED = ("table", "first", "openvino", "openvino_bf16", "workers", "slots")
VERSIONS = ("bentoml", "tritonclient", "grpcio", "nvidia-pytriton", "openvino-genai", "uvicorn")


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    engine: EngineName
    parts: list[str]
    paths: list[str]
    streams: list[int]
    tokens: int
    repeats: int
    workers: int
    rate: float
    tokens_per_message: int
    url: str | None


@dataclass
class Report:
    """What was found, part by part; empty for what was not asked."""

    options: Options
    table: list[Case] = field(default_factory=list)
    first: list[Case] = field(default_factory=list)
    openvino: list[Case] = field(default_factory=list)
    openvino_bf16: list[Case] = field(default_factory=list)
    workers: list[Case] = field(default_factory=list)
    slots: list[Case] = field(default_factory=list)
    idle: list[growth.Idle] = field(default_factory=list)
    length: list[growth.Length] = field(default_factory=list)
    startup: list[starting.Startup] = field(default_factory=list)
    stops: list[stopping.Stop] = field(default_factory=list)
    recovery: list[recovering.Recovery] = field(default_factory=list)
    overload: list[overloading.Overload] = field(default_factory=list)
    beside: list[overloading.Beside] = field(default_factory=list)
    scrapes: list[scraping.Scraped] = field(default_factory=list)
    imports: list[tuple[str, float]] = field(default_factory=list)

    def title(self) -> str:
        """One line on what was measured, where."""
        options = self.options
        what = options.url or {"free": "free engine", "openvino": "OpenVINO engine, demo model"}[options.engine]
        pace = f"{options.rate:g} tokens/s a stream" if options.rate else "free-running"
        size = f"{options.tokens} tokens a request, workers: {options.workers}"
        return f"{what}, {pace}, {size}; {cores()} cores, {cpu_name()}"

    def sections(self) -> dict[str, list[tuple[Sequence[str], Sequence[Sequence[str]]]]]:
        """Tables by part: heads and rows."""
        found: dict[str, list[tuple[Sequence[str], Sequence[Sequence[str]]]]] = {}
        if self.table:
            found["table"] = [(tables.HEAD, tables.rows(self.table))]
        if self.first:
            found["first"] = [(tables.FIRST_HEAD, tables.first_rows(self.first))]
        if self.openvino:
            kinds = {"f32 (default)": self.openvino, "bf16": self.openvino_bf16}
            rows = [(kind, *row) for kind, cases in kinds.items() for row in tables.rows(cases)]
            found["openvino"] = [(("precision", *tables.HEAD), rows)]
        if self.workers:
            rows = [(str(c.workers), *r) for c, r in zip(self.workers, tables.rows(self.workers), strict=True)]
            found["workers"] = [(("workers", *tables.HEAD), rows)]
        if self.slots:
            found["slots"] = [(tables.SLOTS_HEAD, tables.slots_rows(self.slots))]
        if self.idle:
            found["idle"] = [(growth.IDLE_HEAD, growth.idle_rows(self.idle))]
        if self.length:
            found["length"] = [(growth.LENGTH_HEAD, growth.length_rows(self.length))]
        if self.startup:
            found["startup"] = [
                (starting.STARTUP_HEAD, starting.startup_rows(self.startup)),
                (starting.IMPORT_HEAD, starting.import_rows(self.imports)),
            ]
        if self.stops:
            found["stops"] = [(stopping.HEAD, stopping.rows(self.stops))]
        if self.recovery:
            found["recovery"] = [(recovering.HEAD, recovering.rows(self.recovery))]
        if self.overload:
            found["overload"] = [
                (overloading.HEAD, overloading.rows(self.overload)),
                (overloading.BESIDE_HEAD, overloading.beside_rows(self.beside)),
            ]
        if self.scrapes:
            found["scrapes"] = [(scraping.HEAD, [row for one in self.scrapes for row in scraping.rows(one)])]
        return found

    def notes(self) -> dict[str, str]:
        """What to know about a part's numbers."""
        notes = {name: tables.noise(cases) for name in MEASURED if (cases := getattr(self, name))}
        if self.startup:
            middle = statistics.median(one.first_token for one in self.startup)
            notes["startup"] = (
                f"Median: {middle:.1f} s to the first token. The first of the starts warms the disk cache."
            )
        return notes

    def text(self) -> str:
        """For a terminal."""
        lines = [self.title()]
        for name, parts in self.sections().items():
            lines += [f"\n{name}", *(tables.text(*each) for each in parts), self.notes().get(name, "")]
        return "\n".join(lines)

    def markdown(self) -> dict[str, str]:
        """For the document, by part: each says when and where it was measured."""
        when = f"({cores()} cores, {cpu_name()}; {_today()}.)"
        sections = {"machine": f"{self.title()}; {_today()}."} if self.table else {}
        for name, parts in self.sections().items():
            texts = [tables.markdown(*each) for each in parts]
            sections[name] = "\n\n".join([*texts, *filter(None, [self.notes().get(name)]), when])
        return sections

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "title": self.title(),
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": {"cpu": cpu_name(), "cores": cores(), "python": platform.python_version()},
            "versions": {name: version(name) for name in VERSIONS},
            "options": asdict(self.options),
            **{name: tables.as_json(getattr(self, name)) for name in MEASURED},
            "idle": growth.as_json(self.idle),
            "length": growth.as_json(self.length),
            "startup": [asdict(one) for one in self.startup],
            "imports_ms": dict(self.imports),
            "stops": [asdict(one) for one in self.stops],
            "recovery": [asdict(one) for one in self.recovery],
            "overload": [asdict(one) for one in self.overload],
            "beside": [asdict(one) for one in self.beside],
            "scrapes": [asdict(one) for one in self.scrapes],
            "notes": self.notes(),
        }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What was measured before, with what has been measured now in its place, and of which run each part is."""
    run = {name: new[name] for name in ("title", "when", "machine", "versions", "options")}
    measured = {name: value for name, value in new.items() if value and name not in (*run, "notes")}
    runs = {**old["runs"], **{name: run for name in new["options"]["parts"] if name in measured}}
    return {**old, **measured, "runs": runs, "notes": {**old["notes"], **new["notes"]}}


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def cpu_name() -> str:
    """The processor's name, as the kernel says it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
