"""What the page of the API offers: routes with examples that succeed as they stand, of this service by its name."""

from typing import Any

import httpx

from bento_trtllm import VERSION
from bento_trtllm.metrics import routes
from tests.support.serving import Service


def test_every_example_succeeds(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        document = client.get("/docs.json").json()
        tried = set()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                parameters = {each["name"]: each.get("example") for each in operation.get("parameters", ())}
                body: dict[str, Any] | None = None
                if "requestBody" in operation:
                    body = operation["requestBody"]["content"]["application/json"]["example"]
                response = client.request(method, path.format(**parameters), json=body)
                assert response.status_code == 200, (path, response.text)
                tried.add(path)
        assert tried >= set(routes.JSON) | {"/v1/models", "/v1/models/{model}", "/metrics", "/livez"}


def test_it_is_about_this_service(service: Service) -> None:
    info = httpx.get(f"{service.url}/docs.json").json()["info"]
    assert (info["title"], info["version"]) == ("bento-trtllm", VERSION)
    assert "BentoML" not in str(info)
