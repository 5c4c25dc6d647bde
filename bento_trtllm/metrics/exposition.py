"""Metrics in Prometheus' text format, from several sources and of several models."""

from collections.abc import Iterator, Mapping
from itertools import groupby

MODEL_LABEL = "gen_ai_request_model"
"""OpenTelemetry's label of a model; where the service has several, all metrics have it."""


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


def side_by_side(expositions: Mapping[str, str]) -> str:
    """Joins those of several models, by name: each sample gets the label MODEL_LABEL."""
    families: dict[str, list[str]] = {}
    for model, exposition in expositions.items():
        for name, line in _families(exposition):
            lines = families.setdefault(name, [])
            if not line.startswith("#"):
                lines.append(_labelled(line, model))
            elif line not in lines:
                lines.append(line)
    return "\n".join(line for lines in families.values() for line in lines)


def _labelled(sample: str, model: str) -> str:
    label = f'{MODEL_LABEL}="{model}"'
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, _, rest = sample.partition(" ")
    return f"{name}{{{label}}} {rest}"


def _families(exposition: str) -> Iterator[tuple[str, str]]:
    """Each line with the name of its family: samples follow their family's comments."""
    name = ""
    for line in exposition.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            name = line.split(" ", 3)[2]
        if line:
            yield name, line
