"""A machine that has NVIDIA's container on it, for the PyTorch engine: Triton, a GPU, tensorrt_llm in Triton's Python.

The tritonserver, its Python backend and its stub are this machine's real ones; the first python3 that the stub finds
has the packages of this environment, and the fake module besides.
"""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.checkpoint.merge import merge, read_mergeable
from bento_trtllm.engines import make_engine
from bento_trtllm.triton.process import installation
from tests.support.fakes.container import Container
from tests.support.llmapi.api import api
from tests.support.packing import pack_model
from tests.support.standin import place
from tests.support.standin.place import Standin

HERE = Path(__file__).parent
ENGINE = "pytorch"
"""What tests call it."""
STANDIN = ("checks", "door", "executor", "source", "tensors", "upstream")


class LLMAPI(Standin):
    """One such machine in a folder."""

    def __init__(self, folder: Path, version: str = "1.2.1") -> None:
        self.folder, self._version = folder, version
        folder.mkdir(parents=True, exist_ok=True)
        self.container = Container(folder / "container", version)
        self._door = folder / "triton/door.json"
        self.server, self.backends = folder / "triton/bin/tritonserver", folder / "triton/backends"
        self.module = self.backends / "llmapi"  # so that the door lies where the stand-in's does
        self._install()

    def _install(self) -> None:
        found = installation.find()
        assert found.python and found.backends
        self.server.parent.mkdir(parents=True)
        shutil.copytree(HERE / "module", self.module, ignore=shutil.ignore_patterns("__pycache__"))
        for name in STANDIN:
            shutil.copy(place.HERE / "backend" / f"{name}.py", self.module)
        shutil.copy(place.MODELS / "openvino/sequence.py", self.module)
        (self.module / "api.json").write_text(json.dumps(api(self._version)))
        (self.backends / "python").symlink_to(found.backends / "python")
        python = self.folder / "python"
        shutil.copytree(found.python.parent, python, symlinks=True)
        (site,) = python.glob("lib/*/site-packages")
        (site / "fake.pth").write_text(f"{self.module}\n")
        libraries = found.environment(os.environ).get("LD_LIBRARY_PATH", "")
        text = place.SERVER.format(libraries=libraries, python=python / "bin", binary=found.binary)
        self.server.write_text(text)
        self.server.chmod(0o755)

    def pack(self, home: Path, tag: str, checkpoint: Path, *options: str) -> str:
        """Pack with `pack_model.py pytorch`, and keep OpenVINO's files of the same model for the source of tokens."""
        env = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **self.environment}
        pack_model("pytorch", "--checkpoint", checkpoint, "--tag", tag, *options, environment=env).check()
        name, _, version = tag.partition(":")
        engine = (home / "models" / name / version / "engine").resolve()
        source, folder = find_checkpoint(str(checkpoint)), self._source(name, version)
        self._keep(engine, source, folder)
        for option, value in pairwise(options):
            if option == "--lora":
                adapter, _, directory = value.partition("=")
                merged = merge(source, read_mergeable(directory, source), self.folder / f"merged-{name}-{adapter}")
                self._keep(engine / "adapters" / adapter, merged, folder / adapter)
        return tag

    def _keep(self, place: Path, checkpoint: Checkpoint, openvino: Path) -> None:
        """OpenVINO's files of what the fake LLM is told to compute, by its place in the pack."""
        openvino.mkdir(parents=True)
        make_engine("openvino", precision="f32").prepare(checkpoint).write(openvino, openvino)
        # The source reads a file that names its folder, as it reads an engine's.
        (openvino / "place").write_text(str(openvino))
        file = self.module / "places.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, str(place): str(openvino / "place")}))
