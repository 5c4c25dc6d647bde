"""An adapter as a model of its own."""

from types import SimpleNamespace
from typing import Any

from bento_trtllm.api.adapters import adapt


def test_an_adapter_has_what_its_base_has_now() -> None:
    reasons: list[str | None] = [None, "The server is stopping."]
    base: Any = SimpleNamespace(
        name="base",
        tag="base:1",
        proof=None,
        generator="the base's",
        adapters={"lora": ...},
        not_ready=lambda: reasons.pop(0),
    )
    generator: Any = "its own"
    model: Any = adapt(base, "lora", generator)
    assert (model.name, model.tag, model.generator, model.adapters) == ("lora", "lora", "its own", {})
    assert (model.proof, model.not_ready()) == (None, None)
    base.proof = "shown on this machine"
    assert (model.proof, model.not_ready()) == ("shown on this machine", "The server is stopping.")
