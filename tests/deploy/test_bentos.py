"""The two Bentos: what `bentoml build` makes of the bentofiles, and the CPU one installed and served."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bento_trtllm.engines.tensorrt.releases import DEFAULT, find_release
from tests.support.asking import read_events, stream_events
from tests.support.checkpoints import write_checkpoint
from tests.support.demo import ANSWERS, PROMPT
from tests.support.fakes.container import Container
from tests.support.packing import pack_model
from tests.support.serving import ROOT, environment, free_port, pack, serve

GPU, CPU = ROOT / "bentofile.yaml", ROOT / "bentofile.cpu.yaml"
OF_THE_IMAGE = ("torch", "tensorrt", "tensorrt-llm", "transformers", "triton", "nvidia-pytriton")


def build(home: Path, bentofile: Path, model: str) -> Path:
    """Build a Bento with the command that users have; returns its folder."""
    argv = [sys.executable, "-m", "bentoml", "build", "-f", bentofile.name, "--arg", f"model={model}", "-o", "tag"]
    done = subprocess.run(
        argv, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, version = done.stdout.strip().splitlines()[-1].removeprefix("__tag__:").split(":")
    return home / "bentos" / name / version


def requirements(bento: Path) -> dict[str, str]:
    """The locked packages of a Bento, by name."""
    lines = (bento / "env/python/requirements.txt").read_text("utf-8").splitlines()
    return {match[1]: match[2] for line in lines if (match := re.match(r"([\w.-]+)==([^ ;]+)", line))}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    home, container = folder / "bentoml", Container(folder / "container")
    checkpoint = write_checkpoint(folder / "tiny", hidden=128, inner=256)
    inside = environment(home) | container.environment
    pack_model("tensorrt", "--checkpoint", checkpoint, "--tag", "tiny:1", environment=inside).check()
    return build(home, GPU, "tiny:1")


def test_gpu_dockerfile(gpu: Path) -> None:
    """NVIDIA's image, the Python of that image, an environment beside it, BentoML's entrypoint, no root."""
    lines = [line.strip() for line in (gpu / "env/docker/Dockerfile").read_text("utf-8").splitlines()]
    release = find_release(DEFAULT)
    assert f"FROM {release.image} AS base-container" in lines
    venv = [line for line in lines if "uv venv" in line]
    assert venv and f"uv venv --python {release.python} /app/.venv" in venv[0]
    # Hidden from Triton by name: what installation.py takes off PATH and out of the environment.
    assert "ENV VIRTUAL_ENV=/app/.venv" in lines and "ENV PATH=/app/.venv/bin:${PATH}" in lines
    assert 'ENTRYPOINT [ "/home/bentoml/bento/env/docker/entrypoint.sh" ]' in lines
    assert "USER bentoml" in lines and "EXPOSE 3000" in lines
    assert "ARG TRTLLM_STARTUP_TIMEOUT_S=900" in lines
    assert "bentoml serve" in (gpu / "env/docker/entrypoint.sh").read_text("utf-8")


def test_gpu_bento_brings_no_cuda(gpu: Path) -> None:
    packages = requirements(gpu)
    assert packages["bentoml"].startswith("1.4.") and packages["numpy"].startswith("1.26.")
    assert not [name for name in packages if name in OF_THE_IMAGE or "cuda" in name or name.endswith(("cu12", "cu13"))]
    assert [name for name in packages if name.startswith("nvidia")] == ["nvidia-ml-py"]


def test_gpu_bento_holds_what_it_needs(gpu: Path) -> None:
    info = yaml.safe_load((gpu / "bento.yaml").read_text("utf-8"))
    assert info["args"] == {"model": "tiny:1"}
    assert info["labels"] == {"project": "bento-trtllm", "engine": "tensorrt", "openai_endpoint": "/v1"}
    assert [model["tag"] for model in info["services"][0]["models"]] == ["tiny:1"]
    for file in (
        "service.py",
        "bento_trtllm/triton_models/openvino/model.py",
        "bento_trtllm/engines/tensorrt/provenance.py",
    ):
        assert (gpu / "src" / file).is_file()
    assert not (gpu / "src" / "tests").exists() and not (gpu / "src" / "assets").exists()


def test_bentofiles_name_what_the_project_has() -> None:
    files = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in (GPU, CPU)}
    assert files["bentofile.yaml"]["include"] == files["bentofile.cpu.yaml"]["include"], "they hold the same code"
    for bentofile in files.values():
        assert bentofile["service"] == "service:TRTLLM"
        assert (ROOT / bentofile["python"]["requirements_txt"]).is_file()
    assert files["bentofile.yaml"]["docker"]["base_image"] == find_release(DEFAULT).image
    assert files["bentofile.yaml"]["docker"]["python_version"] == find_release(DEFAULT).python


def test_requirements_of_the_cpu_bento_are_the_projects() -> None:
    def lines(name: str) -> set[str]:
        text = (ROOT / name).read_text("utf-8").splitlines()
        return {line for line in text if line and not line.startswith("#")}

    extra = lines("requirements.cpu.txt") - lines("requirements.txt")
    assert lines("requirements.txt") < lines("requirements.cpu.txt")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    cpu = project.partition("\ncpu = [")[2].partition("\n]")[0]
    assert extra and all(f'"{requirement}"' in cpu for requirement in extra)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path]]:
    """The BentoML home, the CPU Bento in it, and the Python of a fresh environment with the Bento's requirements."""
    folder = tmp_path_factory.mktemp("cpu")
    pack(folder / "bentoml", "demo-llama:1")
    bento = build(folder / "bentoml", CPU, "demo-llama:1")
    # With uv, as the Bento's Dockerfile does.
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv/bin/python"
    subprocess.run([uv, "venv", "--python", sys.executable, folder / "venv"], check=True, capture_output=True)
    argv: list[str | Path] = [uv, "pip", "install", "--python", python, "-r", bento / "env/python/requirements.txt"]
    subprocess.run(argv, check=True, timeout=600, capture_output=True)
    yield folder / "bentoml", bento, python


def test_cpu_bento_serves(installed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """By its tag, from its own files and its own requirements, far from this project; as the folder does."""
    home, bento, python = installed
    assert "demo-llama:1" in (bento / "bento.yaml").read_text("utf-8")
    assert requirements(bento)["nvidia-pytriton"] == "0.7.0"
    log = tmp_path / "log.txt"
    path = f"{python.parent}:/usr/bin:/bin"
    tag = f"{bento.parent.name}:{bento.name}"
    with serve(home, log, target=tag, cwd=tmp_path, python=str(python), PATH=path) as service:
        service.wait_ready()
        text, finish = read_events(stream_events(service, {"prompt": PROMPT}))
        assert (text, finish["finish_reason"]) == (ANSWERS[PROMPT], "stop")
        (triton,) = service.tritons()
        assert str(python.parent.parent) in triton.exe()


def test_cpu_bento_of_a_damaged_model_is_refused(installed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    home, bento, python = installed
    weights = home / "models/demo-llama/1/engine/openvino_model.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    try:
        argv = [str(python), "-m", "bentoml", "serve", f"{bento.parent.name}:{bento.name}", "--port", str(free_port())]
        env = environment(home, PATH=f"{python.parent}:/usr/bin:/bin")
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False)
    finally:
        weights.write_bytes(whole)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: the model demo-llama:1 is damaged: engine/openvino_model.bin has ")
