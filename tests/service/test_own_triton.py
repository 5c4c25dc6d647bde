"""A Triton of one's own, by $TRITONSERVER, where the wheel nvidia-pytriton is not installed.

What runs is the wheel's binary, the only one at hand, in a folder laid out as Triton's own installation is.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx

from tests.support.demo import ANSWERS, PROMPT
from tests.support.ensemble import ask, text_input
from tests.support.serving import free_port, serve

PACKAGES = Path(sysconfig.get_path("platlib"))
WHEEL = PACKAGES / "pytriton/tritonserver"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
NEEDED = ("numpy", "tokenizers", "openvino")
"""What the models import: all that docs/deploy.md asks for."""


def environment(folder: Path, *beginnings: str) -> Path:
    """An environment with the packages of this one whose names begin so, but never the wheel; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    site = folder / f"lib/python{VERSION}/site-packages"
    for package in PACKAGES.iterdir():
        if package.name.startswith(beginnings) and "pytriton" not in package.name:
            (site / package.name).symlink_to(package)
    return folder / "bin/python3"


def install(folder: Path) -> Path:
    """A tritonserver with its backend beside it; returns the program."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(WHEEL / "bin/tritonserver", folder / "bin")  # a link would lead to what is beside the wheel's
    backend = folder / "backends/python"
    backend.mkdir(parents=True)
    for file in (
        *(WHEEL / "backends/python").glob("*.*"),
        WHEEL / "python_backend_stubs" / VERSION / "triton_python_backend_stub",
    ):
        (backend / file.name).symlink_to(file)
    return folder / "bin/tritonserver"


def test_it_serves(home: Path, tmp_path: Path) -> None:
    service_python = environment(tmp_path / "service", "")
    missing = [str(service_python), "-c", "import bentoml, pytriton"]
    said = subprocess.run(missing, capture_output=True, text=True, timeout=60, check=False).stderr
    assert "No module named 'pytriton'" in said
    triton = install(tmp_path / "triton")
    model_python = environment(tmp_path / "models", *NEEDED)
    door = ("--arg", f"grpc_port={free_port()}")
    with serve(
        home,
        tmp_path / "log.txt",
        *door,
        python=str(service_python),
        TRITONSERVER=str(triton),
        PATH=f"{service_python.parent}:{model_python.parent}:/usr/bin:/bin",
        LD_LIBRARY_PATH=f"{sysconfig.get_config_var('LIBDIR')}:{PACKAGES / 'nvidia_pytriton.libs'}",
    ) as service:
        service.wait_ready()
        (process,) = service.tritons()
        assert process.cmdline()[0] == str(triton)
        assert f"--backend-directory={triton.parent.parent / 'backends'}" in process.cmdline()
        response = httpx.post(f"{service.url}/generate", json={"prompt": PROMPT}, timeout=60)
        assert (response.status_code, response.text) == (200, ANSWERS[PROMPT])
        (pieces,) = ask(service.grpc_address(), [text_input(PROMPT)])
        assert b"".join(pieces).decode() == ANSWERS[PROMPT]
