"""deploy/bentocloud.yaml, read by BentoML's own loader."""

from pathlib import Path

import yaml
from _bentoml_sdk.service.config import schema_type
from bentoml._internal.cloud.deployment import DeploymentConfigParameters
from bentoml._internal.cloud.schemas.schemasv2 import CreateDeploymentSchema
from bentoml._internal.utils.cattr import bentoml_cattr

from bento_trtllm.config import Settings

ROOT = Path(__file__).parents[2]
BENTOCLOUD = ROOT / "deploy" / "bentocloud.yaml"


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
    for each in written["envs"]:
        assert each["name"].removeprefix("TRTLLM_").lower() in Settings.model_fields, each["name"]


def test_bentocloud_asks_for_one_kind_of_key() -> None:
    """Its own authorization takes its token from the header in which the service expects a key."""
    written = yaml.safe_load(BENTOCLOUD.read_text("utf-8"))
    assert "access_authorization" not in written and written["secrets"] == ["llama-3-api-keys"]


def test_bentocloud_names_the_service() -> None:
    written = yaml.safe_load(BENTOCLOUD.read_text("utf-8"))
    assert list(written["services"]) == ["bento-trtllm"]
    assert 'name="bento-trtllm"' in (ROOT / "service.py").read_text("utf-8")
