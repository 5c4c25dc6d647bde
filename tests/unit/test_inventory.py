"""What the fast and the full check of a pack find, exactly as bento_trtllm/inventory.py says."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento_trtllm import inventory
from bento_trtllm.errors import StoreError
from bento_trtllm.inventory import END, PIECE, SAMPLES
from bento_trtllm.manifest import Manifest

WHOLE = 4 << 20
"""Instead of the 32 MB up to which a file is hashed whole."""
LARGE = WHOLE + (3 << 20) + 5
FACTS: dict[str, Any] = {
    "engine": "openvino", "precision": "int8", "source": "some where/llama", "revision": None, "checksum": "0" * 64,
    "architecture": "LlamaForCausalLM", "parameters": 1, "dtype": "BF16", "vocab_size": 10, "context_length": 20,
    "bos_id": 1, "eos_ids": [2], "versions": {},
}  # fmt: skip


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack with one file that is hashed whole and one that is sampled."""
    monkeypatch.setattr(inventory, "WHOLE", WHOLE)
    path = tmp_path / "mine" / "1"
    for folder in inventory.FOLDERS:
        (path / folder).mkdir(parents=True)
    (path / "engine" / "small.json").write_text("{}")
    (path / "engine" / "large").write_bytes(np.random.default_rng(0).bytes(LARGE))
    (path / "repository" / "model" / "1").mkdir(parents=True)
    (path / "repository" / "model" / "1" / ".keep").touch()
    Manifest(**FACTS).write(path)
    return path


def damaged(packed: Path, *, full: bool = False) -> str:
    """The sentence with which a pack is refused."""
    with pytest.raises(StoreError) as error:
        Manifest.open(packed, full=full)
    return str(error.value)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_whole_pack(packed: Path) -> None:
    manifest = Manifest.open(packed)
    assert manifest == Manifest.open(packed, full=True) == Manifest.read(packed)
    assert manifest.files.keys() == {"engine/large", "engine/small.json", "repository/model/1/.keep"}
    assert manifest.files["engine/small.json"].sha256.startswith("44136fa355b3678a")  # sha256sum's of {}
    assert {name for name, file in manifest.files.items() if file.sampled} == {"engine/large"}


def test_what_is_missing_cut_or_grown(packed: Path) -> None:
    for name in ("engine/large", "engine/small.json"):
        _is_missing_cut_or_grown(packed, name)


def _is_missing_cut_or_grown(packed: Path, name: str) -> None:
    file = packed / name
    data = file.read_bytes()
    file.unlink()
    assert f"the model mine:1 is damaged: {name} is missing; pack it again with" in damaged(packed)
    file.write_bytes(data[:-1])
    assert f"{name} has {len(data) - 1:,} bytes, and was packed with {len(data):,}" in damaged(packed)
    file.write_bytes(data + b"\0")
    assert f"{name} has {len(data) + 1:,} bytes" in damaged(packed)
    file.write_bytes(data)
    Manifest.open(packed)


def test_a_file_that_was_not_packed(packed: Path) -> None:
    (packed / "repository" / "model" / "1" / "model.py").write_text("import os")
    assert "repository/model/1/model.py was not packed" in damaged(packed)


def test_an_exchanged_file_of_the_same_size(packed: Path) -> None:
    (packed / "engine" / "large").write_bytes(np.random.default_rng(1).bytes(LARGE))
    assert "engine/large has other content than was packed" in damaged(packed)


def test_one_byte_where_the_fast_check_looks(packed: Path) -> None:
    file = packed / "engine" / "large"
    data = file.read_bytes()
    for at in (0, END - 1, LARGE - END, LARGE - 1, *(LARGE * i // (SAMPLES + 1) for i in (1, 100, SAMPLES))):
        overwrite(file, at, bytes([data[at] ^ 1]))
        assert "engine/large has other content" in damaged(packed)
        overwrite(file, at, data[at : at + 1])
    Manifest.open(packed)


def test_damage_as_long_as_the_distance_between_two_pieces_is_always_found(packed: Path) -> None:
    file = packed / "engine" / "large"
    data = file.read_bytes()
    for at in np.random.default_rng(2).integers(0, LARGE - LARGE // 257, 20):
        hole = bytes(LARGE // (SAMPLES + 1) + 1)
        overwrite(file, int(at), hole)
        assert "engine/large has other content" in damaged(packed)
        overwrite(file, int(at), data[at : at + len(hole)])
    Manifest.open(packed)


def test_one_byte_between_the_pieces_is_for_the_full_check(packed: Path) -> None:
    file = packed / "engine" / "large"
    at = LARGE * 100 // (SAMPLES + 1) + PIECE
    overwrite(file, at, bytes([file.read_bytes()[at] ^ 1]))
    Manifest.open(packed)
    assert "engine/large has other content than was packed" in damaged(packed, full=True)


def test_one_byte_of_a_small_file_or_of_the_manifest(packed: Path) -> None:
    (packed / "engine" / "small.json").write_text("[]")
    assert "engine/small.json has other content" in damaged(packed)
    (packed / "engine" / "small.json").write_text("{}")
    text = (packed / "manifest.json").read_text()
    (packed / "manifest.json").write_text(text.replace('"context_length": 20', '"context_length": 21'))
    assert "the model mine:1 is damaged: manifest.json is not what was written; pack it again" in damaged(packed)
    (packed / "manifest.json").write_text(text[:-10])
    assert "manifest.json is not what was written" in damaged(packed)
    # Laid out otherwise, as a tool for JSON may do, it says the same.
    (packed / "manifest.json").write_text(json.dumps(json.loads(text)))
    Manifest.open(packed)


def test_a_pack_without_a_manifest_or_of_another_format(packed: Path) -> None:
    again = "pack it again with python pack_model.py"
    (packed / "manifest.json").write_text(json.dumps({**FACTS, "format": 1}))
    assert damaged(packed) == (
        "the model mine:1 was packed by an older version of pack_model.py (format 1, and this one reads 2): "
        f"{again} openvino --checkpoint 'some where/llama' --precision int8 --tag mine:1 --force"
    )
    (packed / "manifest.json").write_text('{"format": 3}')
    assert "was packed by another version of pack_model.py (format 3" in damaged(packed)
    (packed / "manifest.json").write_text("[]")
    assert "manifest.json is not what was written" in damaged(packed)
    (packed / "manifest.json").unlink()
    assert damaged(packed).startswith(f"the model mine:1 has no manifest.json: {again}")


def test_a_gguf_file_is_to_be_packed_again(packed: Path) -> None:
    """As this engine once was: the precision becomes the nearest that there is."""
    for once, now in (("f16", "f16"), ("q8_0", "int8")):
        data = {**FACTS, "precision": once, "options": {"precision": once}, "versions": {"gguf": "0.19.0"}}
        (packed / "manifest.json").write_text(json.dumps({**data, "format": 2, "seal": seal(data)}))
        assert damaged(packed) == (
            "the model mine:1 was packed by an older version of pack_model.py (as a GGUF file): pack it again with "
            f"python pack_model.py openvino --checkpoint 'some where/llama' --precision {now} "
            "--tag mine:1 --force"
        )


def test_packs_of_before_an_engine_had_a_part_of_its_own(packed: Path) -> None:
    """With `tensorrt`, null but for that engine, in place of `build`, and without `options`."""
    file = packed / "manifest.json"
    data = json.loads(file.read_text())
    del data["build"], data["options"], data["seal"]
    built = {"release": "25.12"}
    for engine, part in (("openvino", None), ("tensorrt", built)):
        before = {**data, "engine": engine, "tensorrt": part}
        file.write_text(json.dumps({**before, "seal": seal(before)}))
        assert Manifest.open(packed).build == part
        (packed / "engine" / "small.json").write_text("[]")
        precision = " --precision int8" if engine == "openvino" else ""
        assert f"pack_model.py {engine} --checkpoint 'some where/llama'{precision} --tag mine:1 --force" in damaged(
            packed
        )
        (packed / "engine" / "small.json").write_text("{}")


def seal(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
