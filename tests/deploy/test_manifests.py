"""deploy/*.yaml, each read by its own tool or schema."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from _bentoml_sdk.service.config import schema_type
from bentoml._internal.cloud.deployment import DeploymentConfigParameters
from bentoml._internal.cloud.schemas.schemasv2 import CreateDeploymentSchema
from bentoml._internal.utils.cattr import bentoml_cattr

from bento_trtllm.config import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes.yaml"
BENTOCLOUD = ROOT / "deploy" / "bentocloud.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(KUBERNETES.read_text("utf-8"))}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler"])
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_takes_it(objects: dict[str, dict[str, Any]], kind: str, version: str) -> None:
    kubernetes_validate.validate(objects[kind], version, strict=True)


def test_objects_belong_together(objects: dict[str, dict[str, Any]], pod: dict[str, Any]) -> None:
    deployment, service, scaler = (objects[kind] for kind in ("Deployment", "Service", "HorizontalPodAutoscaler"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    (container,) = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["port"] for probe in probes} | {p["targetPort"] for p in service["spec"]["ports"]} == ports
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_times_are_the_services(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    settings = Settings(startup_timeout_s=float(env["TRTLLM_STARTUP_TIMEOUT_S"]))
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > settings.startup_timeout_s
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + settings.drain_timeout_s + settings.stop_timeout_s
    check_names(env)


def test_bentocloud_takes_it() -> None:
    parameters = DeploymentConfigParameters(config_file=str(BENTOCLOUD))
    # verify() would look the Bento up, in the store and at BentoCloud.
    written = yaml.safe_load(BENTOCLOUD.read_text("utf-8"))
    parameters.cfg_dict, parameters.service_name = dict(written), "bento-trtllm"
    config = parameters.get_config_dict(_client=None)  # type: ignore[arg-type]
    schema = bentoml_cattr.structure(config, CreateDeploymentSchema)
    # BentoML drops what it does not know: all of it is still there.
    assert {name: value for name, value in bentoml_cattr.unstructure(schema).items() if name in written} == written
    assert parameters.get_name() == "llama-3-8b"  # type: ignore[no-untyped-call]
    service = schema.services["bento-trtllm"]
    assert service.scaling and (service.scaling.min_replicas, service.scaling.max_replicas) == (1, 4)
    overrides = schema_type.validate_python(service.config_overrides)
    assert overrides["traffic"] == {"concurrency": 128, "external_queue": True, "timeout": 670}
    check_names({each["name"]: each["value"] for each in written["envs"]})


def test_bentocloud_names_the_service() -> None:
    written = yaml.safe_load(BENTOCLOUD.read_text("utf-8"))
    assert list(written["services"]) == ["bento-trtllm"]
    assert 'name="bento-trtllm"' in (ROOT / "service.py").read_text("utf-8")


def check_names(env: dict[str, str]) -> None:
    for name in env:
        assert name.removeprefix("TRTLLM_").lower() in Settings.model_fields, name
