"""deploy/chart, held against Helm, Kubernetes' schemas and the service."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from bento_trtllm.config import Settings
from tests.support.chart import NAMESPACE, RELEASE, Objects, Refused, lint, render

FULL = {
    "keysSecret": "keys",
    "keysFileSecret": "named-keys",
    "image": {"repository": "r.example.com/b", "tag": "1", "pullSecrets": ["pull"]},
    "settings": {
        "drain_timeout_s": 120.5,
        "stop_timeout_s": 20,
        "startup_timeout_s": 60,
        "enable_kv_cache_reuse": True,
        "max_body_bytes": 16_777_216,
    },
    "autoscaling": {"kind": "keda"},
    "monitoring": {"serviceMonitor": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"gateway": "yes"}}}]},
    "inferencePool": {"enabled": True, "endpointPicker": {"name": "picker"}},
    "nodeSelector": {"gpu": "a100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
}
DEFAULT: dict[str, Any] = {}
KUBERNETES = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
EXTENSIONS = ("ScaledObject", "ServiceMonitor", "InferencePool")
CPU = {"gpus": 0, "autoscaling": {"kind": "none"}, "networkPolicy": {"enabled": False}, "replicas": 3}


@pytest.fixture(scope="module")
def plain() -> Objects:
    return render()


@pytest.fixture(scope="module")
def full() -> Objects:
    return render(FULL)


@pytest.mark.parametrize("values", [DEFAULT, FULL, CPU])
def test_helm_finds_nothing_wrong(values: dict[str, Any]) -> None:
    report = lint(values)
    assert report["total_charts_linted"] == 1 and not report["errors"]
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_takes_it(plain: Objects, full: Objects, version: str) -> None:
    assert set(plain) == {*KUBERNETES, "HorizontalPodAutoscaler"}
    assert set(full) == {*KUBERNETES, *EXTENSIONS}
    for objects in (plain, full, render(CPU)):
        for kind, each in objects.items():
            if kind not in EXTENSIONS:
                kubernetes_validate.validate(each, version, strict=True)


def test_objects_belong_together(full: Objects, plain: Objects) -> None:
    pods = full["Deployment"]["spec"]["template"]
    labels = full["Deployment"]["spec"]["selector"]["matchLabels"]
    assert labels.items() < pods["metadata"]["labels"].items()
    for picker in ("inference.networking.k8s.io", "llm-d.ai"):
        assert pods["metadata"]["labels"][f"{picker}/engine-type"] == "trtllm-serve"
    assert full["Service"]["spec"]["selector"] == labels
    assert (
        full["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        <= full["Service"]["metadata"]["labels"].items()
    )
    for kind, field in (
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
        ("InferencePool", "selector"),
    ):
        assert full[kind]["spec"][field]["matchLabels"] == labels
    assert {each["metadata"]["name"] for each in full.values()} == {RELEASE}
    assert {each["metadata"]["namespace"] for each in full.values()} == {NAMESPACE}
    assert full["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == RELEASE
    assert plain["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == RELEASE
    (container,) = pods["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert full["InferencePool"]["spec"]["targetPorts"] == [{"number": ports["http"]}]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pods["spec"]["volumes"]}


def test_only_one_sets_the_replicas(plain: Objects, full: Objects) -> None:
    assert "replicas" not in plain["Deployment"]["spec"] and "replicas" not in full["Deployment"]["spec"]
    alone = render(CPU)
    assert alone["Deployment"]["spec"]["replicas"] == 3
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & set(alone)


@pytest.mark.parametrize("values", [DEFAULT, FULL])
def test_times_are_the_services(values: dict[str, Any]) -> None:
    pod = render(values)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = Settings(**environment(container))
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > settings.startup_timeout_s
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + settings.drain_timeout_s + settings.stop_timeout_s


def test_settings_are_as_they_were_given(full: Objects) -> None:
    """Helm has whole numbers as floats, and writes large ones so that no service takes them."""
    (container,) = full["Deployment"]["spec"]["template"]["spec"]["containers"]
    settings = Settings(**environment(container))
    given = FULL["settings"]
    assert isinstance(given, dict)
    assert {name: getattr(settings, name) for name in given} == given


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """A container's settings, by their names."""
    return {each["name"].removeprefix("TRTLLM_").lower(): each["value"] for each in container["env"]}


def test_keys_come_from_the_secret_and_the_picker_sends_none(plain: Objects, full: Objects) -> None:
    (container,) = full["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert environment(container)["open_metrics"] == "true"
    (container,) = plain["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in container and "open_metrics" not in environment(container)
    monitored = render({"keysSecret": "keys", "monitoring": {"serviceMonitor": True}})["ServiceMonitor"]
    assert monitored["spec"]["endpoints"][0]["authorization"]["credentials"]["name"] == "keys"


def test_named_keys_are_a_file_of_their_secret(plain: Objects, full: Objects) -> None:
    pod = full["Deployment"]["spec"]["template"]["spec"]
    path = Path(environment(pod["containers"][0])["keys_file"])
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["mountPath"] == str(path.parent))
    assert mount["readOnly"] and "subPath" not in mount  # which would keep the first content for ever
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    assert volume["secret"] == {"secretName": "named-keys", "items": [{"key": path.name, "path": path.name}]}
    assert "keys_file" not in environment(plain["Deployment"]["spec"]["template"]["spec"]["containers"][0])


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"keysFileSecret": "k", "settings": {"keys_file": "/k"}}, "settings.keys_file and keysFileSecret both"),
        ({"setings": {}}, "setings"),
        ({"settings": {"thredas": 2}}, "settings.thredas is no setting of the service"),
        ({"settings": {"startup_timeout_s": "long"}}, "settings/startup_timeout_s': 'long' does not match"),
        ({"settings": None}, "missing property 'settings'"),
        ({"autoscaling": {"minReplicas": 5}}, "autoscaling.minReplicas is 5, and autoscaling.maxReplicas 4"),
        ({"gpus": -1}, "gpus"),
        ({"nodes": 0}, "nodes"),
        ({"nodes": 2}, "nodes is 2, and an engine is on the GPUs of one node: leave nodes at 1"),
        ({"autoscaling": {"kind": "vpa"}}, "kind"),
        ({"inferencePool": {"enabled": True}}, "endpointPicker"),
    ],
)
def test_the_schema_names_what_is_wrong(values: dict[str, Any], what: str) -> None:
    with pytest.raises(Refused, match=what):
        render(values)


def test_the_chart_has_every_setting_but_keys() -> None:
    keys = {"api_keys", "api_keys_file", "admin_key", "grpc_key"}
    given = dict.fromkeys(Settings.model_fields.keys() - keys, "1")
    pod = render({"settings": given})["Deployment"]["spec"]["template"]["spec"]
    assert environment(pod["containers"][0]) == given
    for name in keys:
        with pytest.raises(Refused, match=f"settings.{name}: keys come from a secret only"):
            render({"settings": {name: "x"}})


def test_variables_of_services_are_no_settings(plain: Objects) -> None:
    """Kubernetes' TRTLLM_GRPC_PORT, where there is a Service trtllm-grpc."""
    assert plain["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False
