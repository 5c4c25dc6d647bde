"""An engine is a folder: one that is made up here is packed, planned, found and run by its row in ENGINES alone."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from tritonclient.grpc import model_config_pb2 as pb
from typing_extensions import Self

from bento_trtllm import engines
from bento_trtllm.bento.pinned import PACKS, PROOFS
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checks import check
from bento_trtllm.config import Settings
from bento_trtllm.engines.base import Build, Engine, ManifestPart, Plan
from bento_trtllm.engines.options import EngineOptions
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.wire import tensors
from pack_model import main
from tests.support.checkpoints import write_checkpoint
from tests.support.store import own_store


class Options(EngineOptions):
    """For machines of paper."""

    paper: Literal["a4", "letter"] = Field("a4", description="Its size.")


class PaperEngine(Engine):
    name = "paper"

    def __init__(self, options: Options) -> None:
        self.options = options

    @classmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        return cls(Options.make(**values))

    def prepare(self, checkpoint: Checkpoint) -> "PaperBuild":
        return PaperBuild(checkpoint, self.options)


class PaperBuild(Build):
    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        super().__init__(checkpoint)
        self.options = options

    def plan(self) -> Plan:
        return {"name": "paper", "precision": "ink", "files": {"page": 4}, "settings": self.options.model_dump()}

    def write(self, directory: Path, workspace: Path) -> None:
        (directory / "page").write_text("page")

    def model_config(self) -> pb.ModelConfig:
        return pb.ModelConfig(
            name="tensorrt_llm", backend="python", input=tensors.INPUTS, parameters=tensors.parameters({"pages": "1"})
        )

    def model_sources(self) -> list[Path]:
        return [Path(__file__)]

    def manifest_part(self) -> ManifestPart:
        return {
            "engine": "paper",
            "precision": "ink",
            "context_length": 64,
            "versions": {"press": "1"},
            "dialect": "1.x",
            "build": {"size": self.options.paper},
            "options": {"paper": self.options.paper},
        }


class PaperRuntime(Runtime):
    requested = ("output_ids",)

    def check_machine(self) -> None:
        raise EngineError(f"there is no {(self.manifest.build or {})['size']} here")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    module = sys.modules[__name__].__name__
    row = engines.Sides(f"{module}:Options", f"{module}:PaperEngine", f"{module}:PaperRuntime")
    monkeypatch.setattr(engines, "ENGINES", {**engines.ENGINES, "paper": row})
    monkeypatch.setattr("bento_trtllm.packing.command_line.ENGINES", engines.ENGINES)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    for variable in (PACKS, PROOFS):
        monkeypatch.setenv(variable, "")  # which check() sets
    with own_store(tmp_path / "bentoml"):
        yield tmp_path / "bentoml"


def test_a_third_engine(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "tiny"))
    assert main(["paper", "--checkpoint", checkpoint, "--paper", "letter", "--dry-run"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plan["engine"]["settings"] == {"paper": "letter"} and plan["launch"] is None
    assert main(["openvino", "--checkpoint", checkpoint, "--paper", "letter"]) == 2
    assert "--paper is for paper: leave it out with openvino" in capsys.readouterr().err
    assert main(["paper", "--checkpoint", checkpoint, "--paper", "letter", "--tag", "tiny:1"]) == 0
    assert "packed tiny:1\nserve it with: scripts/serve --model tiny:1" in capsys.readouterr().out
    packed = home / "models" / "tiny" / "1"
    manifest = Manifest.open(packed, full=True)
    assert (manifest.engine, manifest.build, manifest.context_length) == ("paper", {"size": "letter"}, 64)
    runtime = engines.make_runtime(manifest)
    assert runtime.parameters(Settings(), {"pages": "1"}) == {"pages": "1"}
    with pytest.raises(EngineError, match="there is no letter here"):
        runtime.check_machine()
    check([packed], Settings())
    with pytest.raises(EngineError, match="threads is for the engine openvino, and the packed model's is paper"):
        check([packed], Settings(threads=1))
    (packed / "engine" / "page").write_text("blot")
    assert main(["check", "tiny:1"]) == 2
    assert f"pack_model.py paper --checkpoint {checkpoint} --paper letter --tag tiny:1" in capsys.readouterr().err
