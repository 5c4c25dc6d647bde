"""A pack proves itself: what is damaged is noticed, on the machine that packs and on any other."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bento_trtllm.bento.pinned import PACKS, PROOFS, pinned_proof
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checks import check
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.engines.openvino import proof, readback, runtime, trial
from bento_trtllm.engines.openvino.machine import machine
from bento_trtllm.engines.openvino.proof import EXACT, EXACT_BOUND, Measure, prove
from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.manifest import Manifest, Proof
from bento_trtllm.triton_models.openvino.precisions import Precisions
from pack_model import main
from tests.support.checkpoints import write_checkpoint
from tests.support.openvino_build import build
from tests.support.scripted_app import ScriptedApp
from tests.support.store import own_store

pytestmark = pytest.mark.slow

DAMAGED = "model.layers.1.mlp.up_proj.weight"
SERVED = {"exact": "true", "inference_precision": "", "kv_cache_precision": "", "dynamic_quantization_group_size": ""}


def flip(engine: Path, constant: str, size: int) -> None:
    """Change the sign of a constant's first number of `size` bytes."""
    begin = readback._places(engine / "openvino_model.xml")[constant]
    with (engine / "openvino_model.bin").open("r+b") as file:
        file.seek(begin + size - 1)
        highest = file.read(1)[0]
        file.seek(begin + size - 1)
        file.write(bytes([highest ^ 0x80]))


@pytest.mark.parametrize(
    ("precision", "constant", "size"),
    [
        ("f32", DAMAGED, 4),
        ("f16", DAMAGED, 2),
        ("bf16", DAMAGED, 2),
        ("int8", f"{DAMAGED}.scales", 4),
        ("int4", f"{DAMAGED}.scales", 2),
    ],
)
def test_one_flipped_sign_is_noticed(precision: str, constant: str, size: int, tmp_path: Path) -> None:
    """Of a scale, or of a weight where there are none: in the file, and by what is computed."""
    engine = tmp_path / "engine"
    prepared = build(write_checkpoint(tmp_path / "tiny"), precision, engine)
    readback.check_weights(prepared._weights, engine)
    trial.write_cases(prepared.checkpoint, prepared._precision, engine)
    assert trial.measure(engine, EXACT) < 2e-4
    flip(engine, constant, size)
    with pytest.raises(EngineError, match=f"the packed engine has .* in {DAMAGED} where the checkpoint has"):
        prepared.prove(engine)
    with pytest.raises(EngineError, match=r"other than its checkpoint says .* in f32, and the bound is 0\.01"):
        prove(engine, precision, EXACT, trial.measure)


def test_of_a_large_model_some_layers_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, engine = write_checkpoint(tmp_path / "tiny", layers=6), tmp_path / "engine"
    config = find_checkpoint(str(checkpoint)).config
    of_a_layer = sum(int(np.prod(shape)) for name, shape in config.shapes().items() if ".layers.0." in name)
    for affordable, layers in ((1, [0, 5]), (3, [0, 2, 5]), (6, [0, 1, 2, 3, 4, 5])):
        monkeypatch.setattr(trial, "LAYERS_WEIGHTS", affordable * of_a_layer)
        assert trial.chosen_layers(config) == layers
    monkeypatch.setattr(trial, "LAYERS_WEIGHTS", 3 * of_a_layer)
    shown = build(checkpoint, "int8", engine).prove(engine)
    assert shown.machine == machine() and shown.exact_log_prob_error is not None
    assert 0 < shown.exact_log_prob_error < 2e-4 < shown.log_prob_error < 1
    flip(engine, "model.layers.1.mlp.up_proj.weight.scales", 4)
    assert trial.measure(engine, EXACT) < 2e-4  # not one of them
    flip(engine, "model.layers.2.mlp.up_proj.weight.scales", 4)
    assert trial.measure(engine, EXACT) > EXACT_BOUND


def test_rounding_is_no_damage() -> None:
    """Weights of every size, also where scales themselves are rounded, or are 0."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((64, 128)).astype(np.float32) ** 3
    rows *= np.logspace(-9, 3, 64, dtype=np.float32)[:, None]
    rows[5] = 0
    for precision in ("int8", "int4", "f16", "bf16"):
        stored: Any = SimpleNamespace(precision=precision, group=128)
        found = Reference(cast(Any, None), precision)._round("a layer's", rows)
        assert not readback._differ(stored, found, rows).any()
        found[7, 9] = np.nan
        assert np.argwhere(readback._differ(stored, found, rows)).tolist() == [[7, 9]]


def test_weights_that_give_no_probabilities(tmp_path: Path) -> None:
    checkpoint, engine = write_checkpoint(tmp_path / "tiny", config={"rms_norm_eps": 1e30}), tmp_path / "engine"
    prepared = build(checkpoint, "f32", engine)
    object.__setattr__(prepared.checkpoint.config, "rms_norm_eps", float("nan"))
    with pytest.raises(CheckpointError, match="gives tokens no probabilities: its weights are damaged"):
        prepared.prove(engine)


ROUNDED = Precisions("bf16", "u8", 128)


def measures(exact: float, served: float) -> Measure:
    return lambda engine, precisions: exact if precisions == EXACT else served


@pytest.mark.parametrize(("precision", "bound"), [("f32", 4), ("f16", 4), ("bf16", 4), ("int8", 6), ("int4", 6)])
def test_an_error_over_its_bound_is_refused(precision: str, bound: float, tmp_path: Path) -> None:
    """In f32 that is a hundredth, whatever the weights."""
    shown = prove(tmp_path, precision, ROUNDED, measures(0.0099, bound - 0.01))
    assert (shown.exact_log_prob_error, shown.log_prob_error) == (0.0099, bound - 0.01)
    assert shown.computed == "in bf16 with a KV cache in u8, activations in groups of 128"
    with pytest.raises(EngineError, match=r"off by up to 0\.02 in f32, and the bound is 0\.01\)"):
        prove(tmp_path, precision, ROUNDED, measures(0.02, 0))
    for over in (bound + 0.01, float("inf")):
        with pytest.raises(EngineError, match=rf"off by up to {over:.2g} in bf16 with .* and the bound is {bound}\)"):
            prove(tmp_path, precision, ROUNDED, measures(0, over))


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Packs a tiny checkpoint as tiny:1 into a store of its own, and returns the exit code."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    for variable in (PACKS, PROOFS):
        monkeypatch.setenv(variable, "")  # which check() sets
    checkpoint = write_checkpoint(tmp_path / "tiny")
    with own_store(tmp_path / "bentoml"):
        yield lambda: main(["openvino", "--checkpoint", str(checkpoint), "--precision", "f32", "--tag", "tiny:1"])


def test_what_fails_is_not_packed(
    pack: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proof, "EXACT_BOUND", 0)
    assert pack() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the packed engine computes something other") and error.count("\n") == 1
    assert [path for path in (tmp_path / "bentoml").rglob("*") if path.is_file()] == []


def test_another_machine_has_its_own_proof_once(
    pack: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack() == 0
    packed = tmp_path / "bentoml/models/tiny/1"
    shown = Manifest.open(packed).proof
    served, kept = make_runtime(Manifest.read(packed)), tmp_path / "bentoml/proofs"

    def none(*_: object) -> float:
        raise AssertionError("nothing is computed here")

    with monkeypatch.context() as same:
        same.setattr(runtime, "measure_apart", none)
        assert shown and served.prove(packed, SERVED, kept) == shown
    monkeypatch.setattr(runtime, "machine", lambda: "another CPU")
    monkeypatch.setattr(proof, "machine", lambda: "another CPU")
    check([packed], Settings())
    there = pinned_proof(packed)
    assert there and there.machine == "another CPU" and 0 < there.log_prob_error < 2e-4
    Manifest.open(packed, full=True)
    monkeypatch.setattr(runtime, "measure_apart", none)
    assert served.prove(packed, SERVED, kept) == there
    (file,) = kept.iterdir()
    file.write_text("[{")
    monkeypatch.setattr(runtime, "measure_apart", lambda *_: 0.02)
    with pytest.raises(EngineError, match=r"on this machine \(log probabilities are off by up to 0.02 in f32"):
        served.prove(packed, SERVED, kept)


def test_a_machine_that_is_too_small_computes_nothing(
    pack: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is there a proof to be made of a pack that is not served."""
    assert pack() == 0
    proved: list[object] = []

    def measured(*arguments: object) -> float:
        proved.append(arguments)
        return 0

    monkeypatch.setattr(runtime, "machine", lambda: "another CPU")
    monkeypatch.setattr(runtime, "measure_apart", measured)
    monkeypatch.setattr(runtime, "free_memory", lambda groups: 100_000_000)
    with pytest.raises(EngineError) as caught:
        check([tmp_path / "bentoml/models/tiny/1"], Settings())
    assert str(caught.value) == (
        "the packed model takes 0.3 GB of memory, and 0.0 GB for a KV cache of 2,048 tokens, and this machine has 0.1 "
        "GB free: pack it with --precision int4, give a smaller max_tokens_in_paged_kv_cache, or take a larger machine"
    )
    assert not proved
    monkeypatch.setattr(runtime, "free_memory", lambda groups: 1_000_000_000)
    check([tmp_path / "bentoml/models/tiny/1"], Settings())
    assert len(proved) == 1


def test_a_check_measures_anew(
    pack: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And refuses an engine that is off, however well it once did, on this machine, too."""
    assert pack() == 0
    kept = Manifest.read(tmp_path / "bentoml/models/tiny/1").proof
    assert kept and kept.log_prob_error < 2e-4
    capsys.readouterr()
    found = [0.0075]
    monkeypatch.setattr(runtime, "measure_apart", lambda engine, precisions: found[-1])
    assert main(["check", "tiny:1"]) == 0
    told = capsys.readouterr().out.splitlines()[1]
    assert told == (
        f"it computes what its checkpoint says: log probabilities are off by up to 0.0075 in f32, on {kept.machine}"
    )
    found.append(0.02)
    assert main(["--check", "tiny:1"]) == 2
    out, error = capsys.readouterr()
    assert (out, error) == (
        "",
        "error: the packed engine computes something other than its checkpoint says on this machine (log "
        "probabilities are off by up to 0.02 in f32, and the bound is 0.01)\n",
    )


def test_an_engine_that_cannot_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be tried on this machine: .*proof\.json"):
        proof.measure_apart(tmp_path, EXACT)


async def test_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    app = ScriptedApp()
    app.model.proof = Proof(machine="a CPU", computed="in f32", log_prob_error=0.5, exact_log_prob_error=0.25)
    async with app.client() as client:
        card = (await client.get("/v1/models/demo-llama")).json()
    assert card["proof"] == {
        "machine": "a CPU", "computed": "in f32", "log_prob_error": 0.5, "exact_log_prob_error": 0.25,
    }  # fmt: skip
