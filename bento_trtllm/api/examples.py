"""Bodies to try the routes with, for the page of the API: each is answered as it stands."""

from typing import Any

MESSAGES = [{"role": "user", "content": "Say hello in Japanese"}]
BODIES: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "Explain superconductors in plain English", "max_tokens": 256},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 64},
    "/v1/completions": {"prompt": "A superconductor is", "max_tokens": 16},
    "/v1/responses": {"input": "Say hello in Japanese", "max_output_tokens": 64},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 64},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/tokenize": {"prompt": "Hello, world"},
    "/detokenize": {"tokens": [1, 2, 3]},
}
"""By path; where a model is to be named, it is the one that is served."""


def put(specification: dict[str, Any], model: str) -> None:
    """Put examples into an OpenAPI document; `model` is the name of the served one."""
    for path, operations in specification["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "model":
                    parameter["example"] = model
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None and path in BODIES:
                named = {"model": model} if path.startswith("/v1/") else {}
                content["example"] = {**named, **BODIES[path]}
