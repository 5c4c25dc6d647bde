"""Finding a Triton, and what it takes to run the one that is found."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from bento_trtllm.config import TritonSettings
from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import installation
from bento_trtllm.triton.process.installation import Installation, find, private_folder
from bento_trtllm.triton.process.launch import Ports, Start, tritonserver

NOWHERE = Path("/nowhere")
PACKAGES = Path(sysconfig.get_path("platlib"))


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty cache and no Triton."""
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "/usr/bin"}


@pytest.fixture
def wheel(environ: dict[str, str]) -> Installation:
    return find(environ, NOWHERE)


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_named_one_comes_before_the_container_before_the_wheel(tmp_path: Path, environ: dict[str, str]) -> None:
    named = program(tmp_path / "named/bin/tritonserver")
    container = program(tmp_path / "container/bin/tritonserver")
    (tmp_path / "container/backends").mkdir()
    (tmp_path / "container/TRITON_VERSION").write_text("2.59.0\n")
    found = find({**environ, "TRITONSERVER": str(named)}, tmp_path / "container")
    assert (found.binary, found.kind, found.arguments()) == (named, "env", [])
    found = find(environ, tmp_path / "container")
    assert (found.binary, found.kind, found.version) == (container, "container", "2.59.0")
    assert found.arguments() == [f"--backend-directory={tmp_path / 'container/backends'}"]
    found = find({**environ, "PATH": str(named.parent)}, NOWHERE)
    assert (found.kind, found.version) == ("wheel", importlib.metadata.version("nvidia-pytriton"))


@pytest.mark.usefixtures("no_wheel")
def test_the_one_on_path_comes_last(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = program(tmp_path / "bin/tritonserver")
    assert find({**environ, "PATH": str(binary.parent)}, NOWHERE).kind == "path"
    with pytest.raises(TritonError, match=r"container.*nvidia-pytriton.*PATH.*\$TRITONSERVER"):
        find(environ, NOWHERE)


@pytest.mark.parametrize("named", ["/nowhere/tritonserver", "/etc/passwd", "/etc"])
def test_a_named_one_that_cannot_run_is_an_error(environ: dict[str, str], named: str) -> None:
    with pytest.raises(TritonError, match=f"TRITONSERVER is {named}"):
        find({**environ, "TRITONSERVER": named}, NOWHERE)


def test_the_wheel_gets_a_backend_directory_with_the_right_stub(wheel: Installation) -> None:
    assert wheel.backends
    stub = wheel.backends / "python/triton_python_backend_stub"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    origin = PACKAGES / "pytriton/tritonserver/python_backend_stubs" / version / stub.name
    assert stub.read_bytes() == origin.read_bytes()
    assert os.access(stub, os.X_OK)
    assert sorted(p.name for p in stub.parent.iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]


def test_the_cache_is_made_once(environ: dict[str, str], wheel: Installation) -> None:
    assert wheel.backends
    made = wheel.backends.stat().st_ctime_ns
    assert find(environ, NOWHERE) == wheel
    assert wheel.backends.stat().st_ctime_ns == made


def test_several_processes_may_make_the_cache_at_a_time(tmp_path: Path) -> None:
    code = "from bento_trtllm.triton.process.installation import find; print(find().backends)"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert {process.returncode for process in processes} == {0}
    (cached,) = (tmp_path / "bento-trtllm").iterdir()  # and no draft
    assert answers == {str(cached / "backends")}


def test_without_a_home_the_cache_is_a_private_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = find({"HOME": "/dev/null", "PATH": ""}, NOWHERE)
    assert found.backends
    assert found.backends.is_relative_to(tmp_path / f"bento-trtllm-{os.getuid()}")
    assert (tmp_path / f"bento-trtllm-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").symlink_to(tmp_path)
    with pytest.raises(TritonError, match="another user"):
        private_folder(tmp_path / "ours")


def test_the_stubs_of_the_wheel_find_our_packages_and_no_others(wheel: Installation) -> None:
    base = {"PATH": "/usr/bin", "PYTHONPATH": "/elsewhere", "LD_LIBRARY_PATH": "/cuda/lib:"}
    env = wheel.environment(base)
    assert env["PATH"] == f"{wheel.python}:/usr/bin"
    ours, bundled, *rest = env["LD_LIBRARY_PATH"].split(":")
    assert rest == ["/cuda/lib"]
    assert Path(ours, f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0").exists()
    assert Path(bundled) == PACKAGES / "nvidia_pytriton.libs"
    assert "PYTHONPATH" not in env
    # -I is what the stub does with its Python: no PYTHON… variable counts.
    code = "import ssl, sys, numpy; print(numpy.__version__, numpy.__file__)"
    answer = subprocess.run(["python3", "-I", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [np.__version__, np.__file__]


def test_a_triton_that_is_not_the_wheels_does_not_see_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", "/app/.venv")
    base = {
        "PATH": "/app/.venv/bin:/opt/tritonserver/bin:/venv/bin:/usr/bin",
        "VIRTUAL_ENV": "/venv",
        "PYTHONPATH": "/src",
        "PYTHONHOME": "/app",
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib",
        "HOME": "/root",
    }
    env = Installation(tmp_path / "tritonserver", "container").environment(base)
    assert env == {
        "PATH": "/opt/tritonserver/bin:/usr/bin",
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib",
        "HOME": "/root",
    }


def test_a_system_without_an_environment_keeps_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    base = {"PATH": f"{sys.base_prefix}/bin:/usr/bin"}
    assert Installation(tmp_path / "tritonserver", "container").environment(base) == base


@pytest.mark.parametrize("answer", ["glibc 2.31", None])
def test_an_old_system_is_told_so(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: answer)
    with pytest.raises(TritonError, match=r"needs glibc 2\.35.*container"):
        find(environ, NOWHERE)


def test_numpy_2_is_refused(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0" if name == "numpy" else version(name))
    with pytest.raises(TritonError, match=r"numpy 2\.1\.0: `pip install 'numpy<2'`"):
        find(environ, NOWHERE)


def test_a_static_python_is_told_so(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")
    with pytest.raises(TritonError, match=r"libpython3\.\d+\.so\.1\.0.*--enable-shared"):
        find(environ, NOWHERE)


def test_a_python_without_a_stub_is_told_so(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "PYTHON", "3.19")
    with pytest.raises(TritonError, match=r"no Python backend for Python 3\.19"):
        find(environ, NOWHERE)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_command_line(tmp_path: Path, gpu: bool) -> None:
    start = Start(
        installation=Installation(Path("/opt/tritonserver/bin/tritonserver"), "container"),
        repository=tmp_path / "repository",
        folder=tmp_path / "triton-abc",
        cwd=tmp_path / "triton-abc/cwd",
        ports=Ports(grpc=4001, metrics=4002),
        key="secret",
        settings=TritonSettings(stop_timeout_s=5),
        gpu=gpu,
        environ={"PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": "0"},
    )
    launch = tritonserver(start)
    assert launch.argv[0] == "/opt/tritonserver/bin/tritonserver"
    options = dict(option.partition("=")[::2] for option in launch.argv[1:])
    assert {name: value for name, value in options.items() if name.endswith("-address")} == {
        "--grpc-address": "127.0.0.1",
        "--metrics-address": "127.0.0.1",
    }
    assert options["--allow-http"] == "false"
    assert options["--exit-timeout-secs"] == "4"
    assert options["--backend-config"] == "python,shm-region-prefix-name=triton-abc-"
    assert ("--allow-gpu-metrics" in options) is not gpu
    assert launch.cwd == start.cwd
    assert launch.env == {
        "PATH": "/usr/bin",
        "TMPDIR": str(start.folder),
        "OMPI_MCA_ess_singleton_isolated": "1",
        "CUDA_VISIBLE_DEVICES": "0" if gpu else "",
    }


def test_free_ports_differ() -> None:
    ports = [Ports.free() for _ in range(20)]
    assert all(p.grpc != p.metrics for p in ports)
