"""What deploy/kubernetes.yaml asks of a service, asked of a running one."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.serving import ROOT, SSE, Service, pack, serve

MANIFEST = Path(ROOT, "deploy", "kubernetes.yaml")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """With a BENTOML_HOME of its own: BentoML keeps metrics there, and empties them whenever a service starts."""
    pack(tmp_path)
    with serve(tmp_path, tmp_path / "log.txt") as service:
        service.wait_ready()
        yield service


def test_probes_and_the_metric_are_there(service: Service) -> None:
    deployment, _, scaler = yaml.safe_load_all(MANIFEST.read_text("utf-8"))
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert httpx.get(service.url + container[probe]["httpGet"]["path"]).status_code == 200
    (metric,) = (each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"])
    path = pod["metadata"]["annotations"]["prometheus.io/path"]
    answer = httpx.post(f"{service.url}/generate", json={"prompt": "Say hello in Japanese"}, headers=SSE, timeout=60)
    assert answer.status_code == 200
    series = [line for line in httpx.get(service.url + path).text.splitlines() if line.startswith(f"{metric}{{")]
    assert any('endpoint="/generate"' in line for line in series)
