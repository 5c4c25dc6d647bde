"""Whom a service without keys answers, by Host and Origin, where it runs."""

from collections.abc import Mapping

import pytest

from bento_trtllm.api.browsers import Browsers
from bento_trtllm.api.errors import APIError

SCOPE = {"path": "/generate", "server": ("127.0.0.1", 3000)}
FOREIGN = {b"host": b"llama.example", b"origin": b"https://a.example"}
KUBELETS = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
"""What a kubelet sets (Kubernetes, Service docs)."""


@pytest.mark.parametrize("environment", [KUBELETS, {"BENTOCLOUD_DEPLOYMENT_URL": "https://llama.example"}])
def test_pods_are_asked_by_proxies_of_their_own(environment: Mapping[str, str]) -> None:
    """A sidecar connects on the loopback address, with any Host."""
    Browsers((), (), environment).check(SCOPE, FOREIGN)
    with pytest.raises(APIError, match="allowed_hosts"):
        Browsers((), (), {}).check(SCOPE, FOREIGN)


def test_the_environment_is_the_services_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(APIError, match="allowed_hosts"):
        Browsers((), ()).check(SCOPE, FOREIGN)
    for name, value in KUBELETS.items():
        monkeypatch.setenv(name, value)
    Browsers((), ()).check(SCOPE, FOREIGN)
