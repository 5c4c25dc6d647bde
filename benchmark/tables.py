"""Cases as a table: for a terminal, for Markdown, and as JSON."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmark.rounds import Case, Round

NAMES = {
    "bare": "bare tritonclient, tensorrt_llm",
    "ensemble": "bare tritonclient, ensemble",
    "text": "generate, bare text",
    "sse": "generate, SSE",
    "chat": "/v1/chat/completions",
}
HEAD = (
    "path", "streams", "tok/s", "first ms p50", "p99", "between ms p50", "p99", "tokens a chunk",
    "client µs", "gateway µs", "tritonserver µs", "stubs µs", "gateway ÷ bare client", "gateway MB", "Triton MB",
)  # fmt: skip


def rows(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """A row per case: medians, and the range of what varies most."""
    return [_row(case, _bare_of(case, cases)) for case in cases]


def _bare_of(case: Case, cases: Sequence[Case]) -> Case | None:
    same = (case.streams, case.tokens, case.rate, case.workers)
    return next((c for c in cases if c.path == "bare" and (c.streams, c.tokens, c.rate, c.workers) == same), None)


def _row(case: Case, bare: Case | None) -> tuple[str, ...]:
    low, high = case.spread(lambda r: r.tok_s)
    first, gap = _pair(case, lambda r: r.first_ms), _pair(case, lambda r: r.gap_ms)
    http = case.path in ("text", "sse", "chat")
    return (
        NAMES[case.path],
        str(case.streams),
        f"{case.median(lambda r: r.tok_s):,.0f} ({low:,.0f}–{high:,.0f})",
        *(f"{value:.1f}" for value in (*first, *gap)),
        f"{case.median(lambda r: r.chunk_tokens):.1f}",
        _cpu(case, "client"),
        _cpu(case, "gateway") if http else "–",
        _cpu(case, "triton"),
        _cpu(case, "stubs"),
        ratio(case, bare) if http and bare else "–",
        _memory(case, "gateway") if http else "–",
        _memory(case, "triton", "stubs"),
    )


def _pair(case: Case, value: Callable[[Round], tuple[float, float]]) -> tuple[float, float]:
    return case.median(lambda r: value(r)[0]), case.median(lambda r: value(r)[1])


def _cpu(case: Case, group: str) -> str:
    if group not in case.rounds[0].cpu_us:
        return "–"
    return f"{case.median(lambda r: r.cpu_us[group]):.0f}"


def _memory(case: Case, *groups: Any) -> str:
    if not case.rounds[0].peak_mb:
        return "–"
    return f"{case.median(lambda r: sum(r.peak_mb[group] for group in groups)):.0f}"


def ratios(case: Case, bare: Case) -> list[float]:
    """Gateway CPU a token over the bare client's, round by round of the same turn."""
    pairs = zip(case.rounds, bare.rounds, strict=True)
    return sorted(r.cpu_us["gateway"] / b.cpu_us["client"] for r, b in pairs if "gateway" in r.cpu_us)


def ratio(case: Case, bare: Case) -> str:
    values = ratios(case, bare)
    return f"{statistics.median(values):.2f} ({values[0]:.2f}–{values[-1]:.2f})" if values else "–"


def added_first_ms(case: Case, bare: Case) -> tuple[float, float]:
    """What a path adds to the time to the first token, at p50 and at p99: medians over the turns."""
    both = [*zip(case.rounds, bare.rounds, strict=True)]
    at = [sorted(r.first_ms[i] - b.first_ms[i] for r, b in both) for i in (0, 1)]
    return at[0][len(both) // 2], at[1][len(both) // 2]


def first_rows(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """Paced streams: what each path adds to bare Triton."""
    table = []
    for case in cases:
        first, gap = _pair(case, lambda r: r.first_ms), _pair(case, lambda r: r.gap_ms)
        bare = _bare_of(case, cases)
        added = ("–", "–") if case is bare or not bare else tuple(f"{v:+.1f}" for v in added_first_ms(case, bare))
        cpu = _cpu(case, "gateway") if case is not bare else "–"
        table.append((NAMES[case.path], str(case.streams), *(f"{v:.1f}" for v in (*first, *gap)), *added, cpu))
    return table


FIRST_HEAD = (
    "path", "streams", "first ms p50", "p99", "between ms p50", "p99", "added p50", "added p99", "gateway µs",
)  # fmt: skip


def slots_rows(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """The time to the first token, by workers; of p99 the worst round, too."""
    table = []
    for case in cases:
        first = _pair(case, lambda r: r.first_ms)
        worst = case.spread(lambda r: r.first_ms[1])[1]
        table.append((str(case.workers), str(case.streams), *(f"{value:.1f}" for value in (*first, worst))))
    return table


SLOTS_HEAD = ("workers", "streams and slots", "first ms p50", "p99", "p99 of the worst round")


def noise(cases: Iterable[Case]) -> str:
    """How far apart the rounds are, and what else ran."""
    cases = [*cases]
    spread = max((high - low) / case.median(lambda r: r.tok_s) for case in cases for low, high in [case.spread(_rate)])
    foreign = [r.foreign for case in cases for r in case.rounds]
    differ = (
        f"rounds of one case differ by up to {spread:.0%} in tok/s" if len(cases[0].rounds) > 1 else "one round each"
    )
    return (
        f"Noise: {differ}; "
        f"other processes took {sum(foreign) / len(foreign):.2f} cores on average, {max(foreign):.2f} at most."
    )


def _rate(once: Round) -> float:
    return once.tok_s


def text(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = []
    for row in (head, *body):
        cells = [c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *body)]
    lines.insert(1, "|---" + "|---:" * (len(head) - 1) + "|")
    return "\n".join(lines)


def as_json(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """All rounds, with the medians that the table shows beside them."""
    return [
        {
            **asdict(case),
            "median": {
                "tok_s": case.median(lambda r: r.tok_s),
                "first_ms": _pair(case, lambda r: r.first_ms),
                "between_ms": _pair(case, lambda r: r.gap_ms),
                "cpu_us": {g: case.median(lambda r, g=g: r.cpu_us[g]) for g in case.rounds[0].cpu_us},  # type: ignore[misc]
            },
        }
        for case in cases
    ]
