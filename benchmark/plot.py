"""The picture: throughput and time to the first token against concurrency."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.rounds import Case
from benchmark.service import BenchError
from benchmark.tables import NAMES


def draw(cases: Sequence[Case], file: Path, title: str) -> None:
    """Write a PNG. Raises BenchError where matplotlib is missing."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError as error:
        raise BenchError("--plot needs matplotlib: pip install -e .[bench]") from error
    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (speed, first) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for path, name in NAMES.items():
        mine = sorted((case for case in cases if case.path == path), key=lambda case: case.streams)
        if not mine:
            continue
        streams = [case.streams for case in mine]
        middle = [case.median(lambda r: r.tok_s) for case in mine]
        low, high = zip(*(case.spread(lambda r: r.tok_s) for case in mine), strict=True)
        (line,) = speed.plot(streams, middle, marker="o", label=name)
        speed.fill_between(streams, low, high, alpha=0.15, color=line.get_color())
        first.plot(streams, [case.median(lambda r: r.first_ms[0]) for case in mine], marker="o", color=line.get_color())
        slow = [case.median(lambda r: r.first_ms[1]) for case in mine]
        first.plot(streams, slow, marker=".", linestyle=":", color=line.get_color())
    speed.set_ylabel("tokens a second")
    first.set_ylabel("time to first token, ms (dotted: p99)")
    first.set_yscale("log")
    for axis in (speed, first):
        axis.set_xscale("log", base=4)
        axis.set_xlabel("streams at a time")
        axis.set_xticks(ticks := sorted({case.streams for case in cases}), [str(tick) for tick in ticks])
        axis.grid(alpha=0.3)
    speed.set_ylim(bottom=0)
    speed.legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(file, dpi=110)
