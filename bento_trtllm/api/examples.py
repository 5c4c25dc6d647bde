"""Bodies to try the routes with, for the page of the API: each is answered as it stands."""

from typing import Any

MESSAGES = [{"role": "user", "content": "Say hello in Japanese"}]
GENERATE = {"prompt": "Explain superconductors in plain English", "max_tokens": 256}
"""For /generate, whose description is BentoML's."""


def example(**body: Any) -> dict[str, Any]:
    """A route's `openapi_extra` with a body for it; where a model is to be named, put() adds the one that is served."""
    return {"requestBody": {"content": {"application/json": {"example": body}}}}


def put(specification: dict[str, Any], model: str) -> None:
    """Put examples into an OpenAPI document; `model` is the name of the served one."""
    for path, operations in specification["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "model":
                    parameter["example"] = model
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            if path == "/generate":
                content["example"] = GENERATE
            elif path.startswith("/v1/") and "example" in content:
                content["example"] = {"model": model, **content["example"]}
