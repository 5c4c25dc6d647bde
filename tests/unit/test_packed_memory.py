"""What packing says of memory: of the weights, of a token, and of how many tokens the KV cache will hold."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.engines.openvino import engine, runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.process.repository import engine_config, read_parameters
from pack_model import main
from tests.support.checkpoints import write_checkpoint

MODELS = Path(__file__).parents[2] / "bento_trtllm/triton_models"
sys.path += [str(MODELS / "shared"), str(MODELS / "openvino")]

import settings as model_settings  # noqa: E402  as Triton finds it

pytestmark = pytest.mark.slow

CONTEXT = 131_072
SHAPES = [(512, 64), (512, 64), (64, 64), (32, 64), (32, 64), (64, 64), (160, 64), (160, 64), (64, 160)]
"""The matrices of one layer with 4 heads over 2, the embedding and the head; its 3 norms are 64 numbers each."""
WEIGHTS = {
    "int8": sum(rows * columns + 4 * rows for rows, columns in SHAPES) + 3 * 4 * 64,
    "f32": sum(4 * rows * columns for rows, columns in SHAPES) + 3 * 4 * 64,
}
TOKEN = {"int8": 2 * 2 * 16 * 9 // 8, "f32": 2 * 2 * 16 * 4}
"""Keys and values of 2 heads with 16 numbers; in 8 bits, an eighth is for scales and zero points."""
LOADED = WEIGHTS["int8"] + 2**28
Packer = Callable[..., dict[str, Any]]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Packer:
    """Packs a tiny checkpoint as tiny:1, or with --dry-run gives the plan's memory."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    checkpoint = write_checkpoint(tmp_path / "tiny", layers=1, context=CONTEXT)

    def run(*options: str) -> dict[str, Any]:
        assert main(["openvino", "--checkpoint", str(checkpoint), "--tag", "tiny:1", *options]) == 0
        out = capsys.readouterr().out
        plan: dict[str, Any] = json.loads(out) if "--dry-run" in options else {}
        return plan["engine"]["settings"]["memory"] if plan else {}

    return run


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """For packing, the service, and the engine."""
    for module in (engine, runtime, model_settings):
        monkeypatch.setattr(module, "free_memory", lambda groups: free)


@pytest.mark.parametrize("precision", ["int8", "f32"])
def test_a_pack_says_what_it_takes(precision: str, pack: Packer, tmp_path: Path) -> None:
    pack("--precision", precision)
    weights = WEIGHTS[precision]
    packed = tmp_path / "bentoml/models/tiny/1"
    assert Manifest.read(packed).memory == {"weights": weights, "loaded": weights + 2**28, "token": TOKEN[precision]}
    # Before the weights are the graph's own numbers.
    assert 0 <= (packed / "engine/openvino_model.bin").stat().st_size - weights < 4096


@pytest.mark.parametrize(
    ("free", "tokens"),
    [
        (4_000_000_000, 64 * CONTEXT),
        (1_000_000_000, 250_000_000 // 72),
        (LOADED + 20_000_000, 20_000_000 // 72),  # a quarter would be 72 MB
        (LOADED + CONTEXT * 72, CONTEXT),
    ],
    ids=["plenty", "a quarter", "what is left", "a context"],
)
def test_a_plan_says_what_the_engine_takes(
    free: int, tokens: int, pack: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, free)
    assert pack("--dry-run") == {"weights": WEIGHTS["int8"], "loaded": LOADED, "token": 72, "cached_tokens": tokens}
    pack()
    packed = tmp_path / "bentoml/models/tiny/1"
    served = make_runtime(Manifest.read(packed))
    parameters = served.parameters(Settings(), read_parameters(engine_config(packed)))
    served.check_room(parameters)
    placed = {name: {"string_value": value} for name, value in served.share(parameters, 1).items()}
    assert model_settings.OpenVINOSettings.read(placed).num_kv_blocks() == tokens // 32 + 1


def test_a_plan_says_how_much_of_a_context_there_is_room_for(
    pack: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is refused, and works with that for max_tokens_in_paged_kv_cache."""
    set_free(monkeypatch, LOADED + 5_000_000)
    tokens = pack("--dry-run")["cached_tokens"]
    assert tokens == 5_000_000 // 72
    pack()
    packed = tmp_path / "bentoml/models/tiny/1"
    served, own = make_runtime(Manifest.read(packed)), read_parameters(engine_config(packed))
    with pytest.raises(EngineError, match=r"a KV cache of 131,072 tokens, and this machine has 0\.3 GB free"):
        served.check_room(served.parameters(Settings(), own))
    served.check_room(served.parameters(Settings(max_tokens_in_paged_kv_cache=tokens), own))
    with pytest.raises(EngineError, match=f"a KV cache of {tokens + 1:,} tokens"):
        served.check_room(served.parameters(Settings(max_tokens_in_paged_kv_cache=tokens + 1), own))
    set_free(monkeypatch, 1000)
    assert pack("--dry-run", "--force")["cached_tokens"] == 0


def test_a_pack_that_no_longer_has_room_keeps_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that failed is started again, with whatever memory there is then."""
    manifest = Manifest(
        engine="openvino", precision="int8", source="tiny", revision=None, checksum=None, architecture="Llama",
        parameters=1, dtype="F16", vocab_size=512, context_length=CONTEXT, bos_id=None, eos_ids=[0], versions={},
        memory={"loaded": LOADED},
    )  # fmt: skip
    set_free(monkeypatch, LOADED - 1)
    served = make_runtime(manifest)
    parameters = served.parameters(Settings(), {"kv_values_per_token": "64"})
    assert served.share(parameters, 1)["max_tokens_in_paged_kv_cache"] == str(CONTEXT)
