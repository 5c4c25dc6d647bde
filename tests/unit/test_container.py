"""The environment of programs that NVIDIA's container brings, beside the service's own."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.triton.process import container
from bento_trtllm.triton.process.installation import Installation


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for /opt/venv-tritonserver: a real virtual environment, where a TensorRT-LLM seems installed."""
    folder = tmp_path_factory.mktemp("opt") / "venv-tritonserver"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "tensorrt_llm-1.2.1.dist-info").mkdir()
    (site / "tensorrt_llm-1.2.1.dist-info/METADATA").write_text("Name: tensorrt-llm\nVersion: 1.2.1\n")
    return folder


@pytest.mark.parametrize("path", ["/app/.venv/bin:{image}/bin:/usr/bin:/bin", "/app/.venv/bin:/usr/bin:/bin"])
def test_the_images_python_is_first(image: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether PATH still has it or not; ours is hidden."""
    monkeypatch.setattr(sys, "prefix", "/app/.venv")
    base = {"PATH": path.format(image=image), "VIRTUAL_ENV": "/app/.venv", "PYTHONPATH": "/src"}
    assert container.environment(base, image) == {"PATH": f"{image}/bin:/usr/bin:/bin"}
    assert TensorRTPython.find(base, image).version() == "1.2.1"


def test_pack_model_run_by_the_images_own_python(image: Path) -> None:
    """Not through container_entry: then the image's environment is ours too, and is not hidden."""
    code = (
        "import sys; from pathlib import Path; from bento_trtllm.engines.tensorrt.python import TensorRTPython; "
        "assert sys.prefix == sys.argv[1] != sys.base_prefix; "
        "print(TensorRTPython.find(python=Path(sys.argv[1])).version())"
    )
    argv = [str(image / "bin/python3"), "-c", code, str(image)]
    env = {"PATH": f"{image}/bin:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout == "1.2.1\n"


def test_before_26_03_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/app/.venv")
    base = {"PATH": "/app/.venv/bin:/opt/tritonserver/bin:/usr/bin", "HOME": "/root"}
    assert container.environment(base, tmp_path / "none") == {"PATH": "/opt/tritonserver/bin:/usr/bin", "HOME": "/root"}


def test_triton_has_the_images_python_too(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stubs of its Python models find numpy through the first python3 on PATH."""
    monkeypatch.setattr(sys, "prefix", "/app/.venv")
    triton = Installation(Path("/opt/tritonserver/bin/tritonserver"), "container")
    base = {"PATH": "/app/.venv/bin:/usr/bin", "VIRTUAL_ENV": "/app/.venv"}
    assert triton.environment(base, image) == {"PATH": f"{image}/bin:/usr/bin"}
