"""A key's `adapters`, from keys.yaml to the answer: those that it lists, whatever models it may use."""

from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from bento_trtllm.api.access import Access
from bento_trtllm.api.asgi import App
from bento_trtllm.api.browsers import Browsers
from bento_trtllm.api.guard import Guard
from bento_trtllm.api.variants import variants
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.triton_models.shared.adapters import FOLDER, INDEX, Adapters
from tests.support.demo import MODEL
from tests.support.scripted_app import ScriptedApp

KEYS = f"""
keys:
- {{name: quiet, key: sk-quiet-0123456789, adapters: [quiet]}}
- {{name: none, key: sk-none-0123456789a, adapters: []}}
- {{name: any, key: sk-any-0123456789ab}}
- {{name: base, key: sk-base-0123456789a, models: [{MODEL}], adapters: [quiet]}}
- {{name: other, key: sk-other-0123456789, models: [], adapters: [loud]}}
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    """A model with two adapters, behind its keys."""
    inner = ScriptedApp("Hello")
    folder = tmp_path / "engine" / FOLDER
    folder.mkdir(parents=True)
    (folder / INDEX).write_text(Adapters(("loud", "quiet"), 1, ("attn_q",)).text())
    inner.model.variants = variants(
        cast(Any, inner.model), tmp_path, lambda source: inner.model.generator, lambda: cast(Any, inner.source)
    )
    file = tmp_path / "keys.yaml"
    file.write_text(KEYS)
    keyring, ledger = Keyring((), file), Ledger(1)
    ledger.keep(keyring.accountable())
    return Guard(cast(App, inner.app), access=Access(keyring, ledger), max_body_bytes=10_000, browsers=Browsers([], []))


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("sk-quiet-0123456789", [MODEL, "quiet"]),
        ("sk-none-0123456789a", [MODEL]),
        ("sk-any-0123456789ab", [MODEL, "loud", "quiet"]),
        ("sk-base-0123456789a", [MODEL, "quiet"]),
        ("sk-other-0123456789", ["loud"]),
    ],
    ids=["one", "none", "not limited", "one beside its model", "one and no model"],
)
async def test_a_key_allows_the_adapters_that_it_lists(app: App, key: str, allowed: list[str]) -> None:
    headers = {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(cast(Any, app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == allowed
        for model in (MODEL, "loud", "quiet"):
            answer = await client.post("/v1/completions", json={"model": model, "prompt": "Hi", "max_tokens": 4})
            assert answer.status_code == (200 if model in allowed else 403), answer.text
            if model not in allowed:
                assert f"does not allow the model `{model}`" in answer.json()["error"]["message"]
