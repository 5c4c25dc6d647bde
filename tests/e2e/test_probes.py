"""What deploy/kubernetes.yaml asks of a service, asked of a running one."""

from pathlib import Path

import httpx
import yaml

from tests.e2e.serving import ROOT, SSE, Service

MANIFEST = Path(ROOT, "deploy", "kubernetes.yaml")


def test_probes_and_the_metric_are_there(service: Service) -> None:
    deployment, _, scaler = yaml.safe_load_all(MANIFEST.read_text("utf-8"))
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert httpx.get(service.url + container[probe]["httpGet"]["path"]).status_code == 200
    (metric,) = (each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"])
    path = pod["metadata"]["annotations"]["prometheus.io/path"]
    question = {"prompt": "Say hello in Japanese"}
    with httpx.stream("POST", f"{service.url}/generate", json=question, headers=SSE, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data:")
        exposition = httpx.get(service.url + path).text
    assert any(line.startswith(f"{metric}{{") and line.endswith(" 1.0") for line in exposition.splitlines())
