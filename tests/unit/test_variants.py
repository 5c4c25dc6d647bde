"""An adapter as a model of its own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bento_trtllm.api.variants import variants
from bento_trtllm.generation.adapted import Adapted
from bento_trtllm.triton_models.shared.adapters import FOLDER, INDEX, Adapters


def test_an_adapter_has_what_its_base_has_now(tmp_path: Path) -> None:
    (tmp_path / "engine" / FOLDER).mkdir(parents=True)
    index = Adapters(("loud", "lora"), 1, ("attn_q",)).text()
    (tmp_path / "engine" / FOLDER / INDEX).write_text(index)
    reasons: list[str | None] = [None, "The server is stopping."]
    base: Any = SimpleNamespace(
        name="base",
        tag="base:1",
        kind="models",
        proof=None,
        generator="the base's",
        variants={"lora": ...},
        not_ready=lambda: reasons.pop(0),
    )
    source: Any = "the engine"
    made_of: Any = lambda source: source()  # noqa: E731
    made: Any = variants(base, tmp_path, made_of, lambda: source)
    assert list(made) == ["loud", "lora"]
    model = made["lora"]
    assert (model.name, model.tag, model.kind, model.variants) == ("lora", "lora", "adapters", {})
    assert isinstance(model.generator, Adapted)
    assert model.generator.source() is source and model.generator.adapter == 2
    assert (model.proof, model.not_ready()) == (None, None)
    base.proof = "shown on this machine"
    assert (model.proof, model.not_ready()) == ("shown on this machine", "The server is stopping.")
    assert variants(base, tmp_path / "none", made_of, lambda: source) == {}
