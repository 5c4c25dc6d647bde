"""Metrics in Prometheus' text format, from several sources."""

from collections.abc import Iterator
from itertools import groupby


def merge(*expositions: str) -> str:
    """Joins expositions in the text format; if two have the same metric family, the first one's is kept."""
    seen: set[str] = set()
    lines: list[str] = []
    for exposition in expositions:
        for name, family in groupby(_families(exposition), lambda pair: pair[0]):
            if name not in seen:
                lines += [line for _, line in family]
        seen |= {name for name, _ in _families(exposition)}
    return "\n".join(lines) + "\n"


def _families(exposition: str) -> Iterator[tuple[str, str]]:
    """Each line with the name of its family: samples follow their family's comments."""
    name = ""
    for line in exposition.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            name = line.split(" ", 3)[2]
        if line:
            yield name, line
