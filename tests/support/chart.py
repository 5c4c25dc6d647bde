"""deploy/chart as Helm renders it: Helm's own code, as a library.

It is Go's, which wants a process to itself: in one that had run much else before, it ended that process.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, TypeVar

import yaml

from tests.support.serving import ROOT

CHART = ROOT / "deploy" / "chart"
RELEASE, NAMESPACE = "llama", "ml"
T = TypeVar("T")

Objects = dict[str, dict[str, Any]]
"""By their kinds: the chart has one of each at most."""


class Refused(Exception):
    """Helm refuses the values; the message is its own."""


def render(values: dict[str, Any] | None = None) -> Objects:
    """What `helm template` writes. Raises Refused for values that the chart's schema refuses."""
    files = _apart(_render, values)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    objects = {each["kind"]: each for each in found}
    assert len(objects) == len(found)
    return objects


def lint(values: dict[str, Any]) -> dict[str, Any]:
    """What `helm lint --strict` finds."""
    return _apart(_lint, values)


def _apart(task: Callable[[Any], T], values: dict[str, Any] | None) -> T:
    return _helm().submit(task, values).result(60)


@cache
def _helm() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _render(values: dict[str, Any] | None) -> dict[str, str]:
    from helm_python.chart import Chart  # noqa: PLC0415  only in the process of its own
    from helm_python.errors import HelmError  # noqa: PLC0415

    try:
        with Chart.load(CHART) as chart:
            return dict(chart.render(values, name=RELEASE, namespace=NAMESPACE))
    except HelmError as error:  # does not survive the way between processes
        raise Refused(str(error)) from None


def _lint(values: dict[str, Any]) -> dict[str, Any]:
    from helm_python.chart import lint as check  # noqa: PLC0415

    return check(CHART, values, strict=True)
