"""How to route between replicas: `python -m benchmark.routing` simulates 1 to 1,000 of them and writes docs/scale.png.

A request is a prompt whose beginning others share, by a skewed law, and an end of its own. A replica reads one prompt
at a time and keeps the beginnings that it read last: one that it has costs it nothing. What is simulated is the time to
the first token; decoding is left out, since it takes the same whoever does it. Times are in seconds, lengths in tokens.
"""

import argparse
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DOCS = Path(__file__).parents[1] / "docs"
SIZES = (1, 3, 10, 30, 100, 300, 1000)
CHOICES = 2
"""Replicas that a beginning belongs to."""


@dataclass(frozen=True)
class Fleet:
    """What is assumed. `load` is the share of the time that replicas would read, if none had anything cached."""

    replicas: int
    requests: int = 20_000
    prefixes_per_replica: int = 20
    skew: float = 1.1
    prefix_tokens: int = 1500
    own_tokens: int = 200
    tokens_per_s: float = 8000
    kept: int = 10
    load: float = 0.8
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Of each request, the time to its first token and whether its beginning was cached; how many each replica had."""

    first_s: NDArray[np.float64]
    hit: NDArray[np.bool_]
    served: NDArray[np.int64]


Policy = Callable[[int, int, NDArray[np.float64], np.random.Generator], int]
"""Picks a replica for the request of this number, with this beginning, given when each replica will have read all."""


def round_robin(number: int, prefix: int, busy_s: NDArray[np.float64], rng: np.random.Generator) -> int:
    """One after the other."""
    return number % len(busy_s)


def least_loaded(number: int, prefix: int, busy_s: NDArray[np.float64], rng: np.random.Generator) -> int:
    """The one with the least to read; any of those that have equally little, since the first would get most."""
    equals = np.flatnonzero(busy_s == busy_s.min())
    return int(equals[rng.integers(len(equals))])


def prefix_aware(number: int, prefix: int, busy_s: NDArray[np.float64], rng: np.random.Generator) -> int:
    """The less loaded of the two that the beginning belongs to, unless even that one has far more to read than most.

    Of two that are equal it is always the same, so that a beginning is read twice only where one is busy.
    """
    owners = _owners(prefix, len(busy_s))
    best = min(owners, key=lambda replica: float(busy_s[replica]))
    return best if busy_s[best] <= 2 * busy_s.mean() + PATIENCE_S else least_loaded(number, prefix, busy_s, rng)


PATIENCE_S = 0.2
"""About what reading a beginning anew costs: it is worth waiting that long for one that has it."""
POLICIES: dict[str, Policy] = {
    "round robin": round_robin,
    "least loaded": least_loaded,
    "prefix-aware": prefix_aware,
}


@cache
def _owners(prefix: int, replicas: int) -> tuple[int, ...]:
    return tuple(zlib.crc32(f"{prefix}/{choice}".encode()) % replicas for choice in range(CHOICES))


def simulate(fleet: Fleet, policy: Policy) -> Outcome:
    """Route all requests. The same seed gives the same requests, at the same times, to every policy.

    What a policy draws comes after all of them.
    """
    rng = np.random.default_rng(fleet.seed)
    whole_s = (fleet.prefix_tokens + fleet.own_tokens) / fleet.tokens_per_s
    arrivals = np.cumsum(rng.exponential(whole_s / (fleet.load * fleet.replicas), fleet.requests))
    ranks = np.arange(1, fleet.prefixes_per_replica * fleet.replicas + 1, dtype=float) ** -fleet.skew
    prefixes = rng.choice(len(ranks), fleet.requests, p=ranks / ranks.sum())
    kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(fleet.replicas)]
    free_at = np.zeros(fleet.replicas)
    outcome = Outcome(
        np.zeros(fleet.requests), np.zeros(fleet.requests, bool), np.zeros(fleet.replicas, dtype=np.int64)
    )
    for number, (now, prefix) in enumerate(zip(arrivals.tolist(), prefixes.tolist(), strict=True)):
        replica = policy(number, prefix, np.maximum(free_at - now, 0), rng)
        hit = prefix in kept[replica]
        kept[replica][prefix] = None
        kept[replica].move_to_end(prefix)
        if len(kept[replica]) > fleet.kept:
            kept[replica].popitem(last=False)
        tokens = fleet.own_tokens + (0 if hit else fleet.prefix_tokens)
        free_at[replica] = max(free_at[replica], now) + tokens / fleet.tokens_per_s
        outcome.first_s[number], outcome.hit[number] = free_at[replica] - now, hit
        outcome.served[replica] += 1
    return outcome


def main() -> None:
    """Simulate every size and policy; print a table in Markdown and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.routing", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=DOCS / "scale.png")
    options = parser.parse_args()
    print("| replicas | routing | beginnings cached | first token ms p50 | p99 | busiest ÷ mean |")
    print("|---|---|---|---|---|---|")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in POLICIES}
    for replicas in SIZES:
        fleet = Fleet(replicas, requests=max(20_000, 100 * replicas), seed=options.seed)
        for name, policy in POLICIES.items():
            outcome = simulate(fleet, policy)
            middle, slow = (float(np.percentile(outcome.first_s, share)) * 1000 for share in (50, 99))
            hits = float(outcome.hit.mean())
            uneven = float(outcome.served.max() / outcome.served.mean())
            found[name].append((hits, middle, slow))
            print(f"| {replicas} | {name} | {hits:.0%} | {middle:.0f} | {slow:.0f} | {uneven:.2f} |")
    draw(found, options.plot)


def draw(found: dict[str, list[tuple[float, float, float]]], file: Path) -> None:
    """Write a PNG of what each policy gave at each of SIZES."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError:
        raise SystemExit("error: the picture needs matplotlib: .venv/bin/pip install -e .[bench]") from None
    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (cached, first) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, rows in found.items():
        hits, middle, slow = zip(*rows, strict=True)
        (line,) = cached.plot(SIZES, [100 * share for share in hits], marker="o", label=name)
        first.plot(SIZES, middle, marker="o", color=line.get_color())
        first.plot(SIZES, slow, marker=".", linestyle=":", color=line.get_color())
    cached.set_ylabel("beginnings found in the cache, %")
    cached.set_ylim(0, 100)
    first.set_ylabel("time to first token, ms (dotted: p99)")
    first.set_yscale("log")
    for axis in (cached, first):
        axis.set_xscale("log")
        axis.set_xlabel("replicas")
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.grid(alpha=0.3)
    cached.legend(fontsize="small")
    figure.suptitle("Routing requests whose prompts share their beginnings (simulated)")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
