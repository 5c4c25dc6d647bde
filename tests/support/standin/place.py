"""A machine that has NVIDIA's container on it, as far as the service can see: Triton, its backends, a GPU.

The tritonserver is this machine's real one. Its backend folder has the real Python backend, and the stand-in where the
container has `tensorrtllm`.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from bento_trtllm.engines.tensorrt.provenance import Provenance
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.process import installation
from tests.support.fakes.container import Container
from tests.support.packing import pack_model
from tests.support.standin.untied import untied

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# Of the OpenVINO engine's model, whose tokens the stand-in takes.
SHARED = (
    *(f"shared/{name}.py" for name in ("faults", "guide", "parameters", "request", "words")),
    "openvino/sequence.py",
)
MODELS = ROOT / "bento_trtllm/triton_models"
SERVER = """#!/bin/sh
export LD_LIBRARY_PATH="{libraries}" PATH="{python}:$PATH"
for argument in "$@"; do
    case $argument in
    --backend-config=python,shm-region-prefix-name=*)
        set -- "$@" "--backend-config=tensorrtllm,${{argument#--backend-config=python,}}" ;;
    esac
done
exec "{binary}" "$@"
"""

Release = Literal["24.06", "25.12"]
VERSIONS: Mapping[str, str] = {"24.06": "0.10.0", "25.12": "1.1.0"}
ENGINES: Mapping[str, Release] = {"tensorrt-1.x": "25.12", "tensorrt-0.10": "24.06"}
"""What tests call a TensorRT engine in service: by its dialect."""
# Else the engine of 0.10.0 has less than the model's context: a prompt's longest, and 1024 tokens more.
LENGTHS: Mapping[Release, tuple[str, ...]] = {"24.06": ("--max-input-len", "3072"), "25.12": ()}


class Standin:
    """One such machine in a folder. The door is shared by all that it serves."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder, self.release = folder, release
        folder.mkdir(parents=True, exist_ok=True)
        self.container = Container(folder / "container", VERSIONS[release])
        self._door = folder / "triton/door.json"
        self.server, self.backends = folder / "triton/bin/tritonserver", folder / "triton/backends"
        self._install()

    def _install(self) -> None:
        found = installation.find()
        self.server.parent.mkdir(parents=True)
        libraries = found.environment(os.environ).get("LD_LIBRARY_PATH", "")
        self.server.write_text(SERVER.format(libraries=libraries, python=found.python, binary=found.binary))
        self.server.chmod(0o755)
        backends = self.backends
        assert found.backends
        shutil.copytree(HERE / "backend", backends / "tensorrtllm", ignore=shutil.ignore_patterns("__pycache__"))
        for name in SHARED:
            shutil.copy(MODELS / name, backends / "tensorrtllm")
        (backends / "python").symlink_to(found.backends / "python")

    @property
    def environment(self) -> dict[str, str]:
        """What a service, or pack_model.py, must see to take this machine for the container."""
        path = f"{Path(sys.executable).parent}:{self.container.environment['PATH']}"
        return {**self.container.environment, "PATH": path, "TRITONSERVER": str(self.server)}

    def pack(self, home: Path, tag: str, checkpoint: Path, *options: str) -> str:
        """Pack with `pack_model.py tensorrt`, and give the engine files what the stand-in reads."""
        if self.release == "24.06":
            checkpoint = untied(checkpoint, self.folder / "untied" / tag.replace(":", "-"))
        argv = ("tensorrt", "--checkpoint", checkpoint, "--tag", tag, "--release", self.release)
        env = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **self.environment}
        pack_model(*argv, *LENGTHS[self.release], *options, environment=env).check()
        name, _, version = tag.partition(":")
        packed = home / "models" / name / version
        self._build(packed, checkpoint)
        return tag

    def _build(self, packed: Path, checkpoint: Path) -> None:
        """What NVIDIA's trtllm-build would have made: here the path of OpenVINO's, and the lengths it was built for."""
        manifest = Manifest.read(packed)
        engine = self._source(packed.parent.name, packed.name)
        engine.mkdir(parents=True)
        make_engine("openvino", precision="f32").prepare(find_checkpoint(str(checkpoint))).write(engine, engine)
        built = Provenance.model_validate(manifest.build)
        files: Mapping[str, Any] = {
            "rank0.engine": str(engine),
            "config.json": json.dumps(
                {
                    "version": built.tensorrt_llm,
                    "pretrained_config": {"vocab_size": manifest.vocab_size},
                    "build_config": {
                        "max_input_len": built.max_input_len,
                        "max_seq_len": built.max_seq_len,
                        "max_batch_size": built.max_batch_size,
                        "max_num_tokens": built.max_num_tokens,
                    },
                }
            ),
        }
        for file, text in files.items():
            (packed / "engine" / file).unlink()  # a link into the workspace of builds
            (packed / "engine" / file).write_text(text)
        manifest.write(packed)

    def _source(self, name: str, version: str) -> Path:
        """Where OpenVINO's files of a packed model are, from which its tokens come."""
        return self.folder / "openvino" / name / version

    def pause(self, tag: str, step_s: float) -> None:
        """Have each step of a packed model take so much longer, from its next start on."""
        (self._source(*tag.split(":")) / "pause_s").write_text(str(step_s))

    def wish(self, **wishes: Any) -> None:
        """Have the stand-in misbehave, from its next step on: backend/door.py says how. No wishes: as it should."""
        draft = self._door.with_suffix(".draft")
        draft.write_text(json.dumps(wishes))
        draft.rename(self._door)
