"""deploy/chart as Helm renders it: Helm's own code, as a library."""

from typing import Any

import yaml
from helm_python.chart import Chart

from tests.support.serving import ROOT

CHART = ROOT / "deploy" / "chart"
RELEASE, NAMESPACE = "llama", "ml"

Objects = dict[str, dict[str, Any]]
"""By their kinds: the chart has one of each at most."""


def render(values: dict[str, Any] | None = None) -> Objects:
    """What `helm template` writes. Raises HelmError for values that the chart's schema refuses."""
    with Chart.load(CHART) as chart:
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    objects = {each["kind"]: each for each in found}
    assert len(objects) == len(found)
    return objects
