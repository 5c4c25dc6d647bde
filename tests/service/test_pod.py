"""The chart's pod: its settings and keys, its probes, what its autoscaler and a gateway read, and its end."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.chart import render
from tests.support.serving import Service, pack, serve

KEY = {"authorization": "Bearer pods-key"}
VALUES = {
    "gpus": 0,
    "keysSecret": "keys",
    "preStopSeconds": 1,
    "settings": {"startup_timeout_s": 60, "drain_timeout_s": 5},
    "inferencePool": {"enabled": True, "endpointPicker": {"name": "picker"}},
}
POOL = (
    *("trtllm_num_requests_waiting", "trtllm_num_requests_running"),
    *("trtllm_kv_cache_utilization", "trtllm_kv_cache_max_blocks", "trtllm_kv_cache_tokens_per_block"),
)
"""The extension's, docs/proposals/003-model-server-protocol of kubernetes-sigs/gateway-api-inference-extension."""


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = render(VALUES)["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def service(pod: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a BENTOML_HOME of its own: BentoML keeps metrics there, and empties them whenever a service starts."""
    home = tmp_path_factory.mktemp("pod")
    pack(home)
    env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    with serve(home, home / "log.txt", python=sys.executable, **env, TRTLLM_API_KEYS="pods-key") as service:
        service.wait_ready()
        yield service


def test_probes_and_metrics_are_there_and_the_rest_wants_the_key(service: Service, pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert httpx.get(service.url + container[probe]["httpGet"]["path"]).status_code == 200
    assert httpx.get(f"{service.url}/v1/models").status_code == 401
    assert httpx.get(f"{service.url}/v1/models", headers=KEY).status_code == 200
    texts = [httpx.get(service.url + path).text for path in ("/metrics", "/prometheus/metrics")]
    for text in texts:
        gauges = dict(line.split() for line in text.splitlines() if line.startswith(POOL))
        assert set(gauges) == set(POOL)
        assert float(gauges["trtllm_kv_cache_utilization"]) == 0
        assert float(gauges["trtllm_kv_cache_max_blocks"]) > 0 and gauges["trtllm_kv_cache_tokens_per_block"] == "32"
    scaler = render()["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert {each["pods"]["metric"]["name"] for each in scaler} < set(POOL)


def test_it_ends_as_kubernetes_ends_it(service: Service, pod: dict[str, Any]) -> None:
    began = time.monotonic()
    subprocess.run(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"], check=True)
    assert service.stop() == 0
    assert time.monotonic() - began < pod["terminationGracePeriodSeconds"]
