"""What scripts/serve packs a checkpoint as: the tag, by which it finds it again, and what pack_model.py is told."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bento_trtllm.checkout import once
from bento_trtllm.checkout.once import named
from bento_trtllm.checkout.serve import USAGE
from bento_trtllm.engines.openvino.options import OpenVINOOptions
from bento_trtllm.manifest import Manifest
from tests.support import hub
from tests.support.checkpoints import write_checkpoint
from tests.support.packing import pack_model

DEFAULT = OpenVINOOptions().precision
PROGRAM = """
import json, sys
from bento_trtllm.checkout import once
print(json.dumps(getattr(once, sys.argv[1])(*sys.argv[2:])))
"""
DEAD = "http://127.0.0.1:9"
"""Nobody listens there."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny")


def test_another_precision_or_changed_file_is_another_version(checkpoint: Path) -> None:
    tag, options = named(str(checkpoint))
    assert tag.startswith("tiny:") and options == ["--checkpoint", str(checkpoint), "--precision", DEFAULT]
    other, options = named(str(checkpoint), "int4")
    assert other != tag and options[2:] == ["--precision", "int4"]
    assert named(str(checkpoint))[0] == tag
    os.utime(checkpoint / "model.safetensors")
    assert named(str(checkpoint))[0] != tag


def test_the_default_precision_is_the_same_where_it_is_named(checkpoint: Path) -> None:
    assert named(str(checkpoint), DEFAULT) == named(str(checkpoint))
    assert f"{DEFAULT} (default)" in USAGE


def test_a_changed_source_is_another_version(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says: README.md tells of what that leaves in the store. What Python keeps beside it is none."""
    (compiled := tmp_path / "bento_trtllm" / "__pycache__").mkdir(parents=True)
    (source := compiled.with_name("pack.py")).write_text("old")
    monkeypatch.setattr(once, "ROOT", tmp_path)
    tag, _ = named(str(checkpoint))
    for name in ("pack.cpython-311.pyc", "pack.cpython-311.pyc.140234"):
        compiled.joinpath(name).write_text("compiled")
    assert named(str(checkpoint))[0] == tag
    source.write_text("new")
    assert named(str(checkpoint))[0] != tag


@pytest.mark.slow
def test_a_hugging_face_id_is_packed_once_for_each_commit(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: huggingface_hub reads the environment when it is imported."""
    (program := tmp_path / "program.py").write_text(PROGRAM)
    environment = {
        **os.environ, "BENTOML_HOME": str(tmp_path / "bentoml"), "HF_HOME": str(tmp_path / "huggingface"),
        "NO_PROXY": "127.0.0.1",
    }  # fmt: skip

    def ask(function: str, endpoint: str) -> Any:
        variables = {**environment, "HF_ENDPOINT": endpoint}
        done = pack_model(function, "some/Tiny", environment=variables, program=program)
        done.check()
        return json.loads(done.out)

    with hub.serve_hub({"some/Tiny": checkpoint}) as endpoint:
        tag, options = ask("named", endpoint)
        assert tag.startswith("tiny:")
        revision = ["--revision", hub.COMMIT]
        assert options == ["--checkpoint", "some/Tiny", *revision, "--precision", DEFAULT]
        assert ask("packed", endpoint) == tag
        (pack,) = tmp_path.glob("bentoml/models/*/*/manifest.json")
        assert pack.parent == tmp_path / "bentoml/models" / tag.replace(":", "/")
        manifest = Manifest.read(pack.parent)
        assert (manifest.source, manifest.revision, manifest.precision) == ("some/Tiny", hub.COMMIT, DEFAULT)
        before = pack.stat().st_mtime_ns
        # What is downloaded and packed needs no network.
        assert ask("packed", DEAD) == tag and pack.stat().st_mtime_ns == before
        monkeypatch.setattr(hub, "COMMIT", other := "f" * 40)
        newer, options = ask("named", endpoint)
        assert newer != tag and options[2:4] == ["--revision", other]
