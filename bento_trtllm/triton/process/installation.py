"""Finds a tritonserver on this machine and how to run it.

The first of these wins: the binary that `$TRITONSERVER` names, NVIDIA's container, the wheel nvidia-pytriton, a
tritonserver on PATH.

The wheel has a complete Triton but leaves two things to whoever starts it: a backend directory with the Python stub of
the right version, and a `python3` at the front of PATH. The stub embeds an *isolated* Python, which ignores PYTHONPATH
and finds its packages only through the first `python3` on PATH. With the wrong one it imports some other numpy, and
with numpy 2 this Triton silently reads and writes zeros. So both are built once into a cache folder; the `python3` is a
virtual environment of three small files that points to the packages of this very process.

Any other Triton brings a Python of its own and must not see ours: the virtual environment that the service runs in is
removed from its environment.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bento_trtllm.errors import TritonError
from bento_trtllm.triton.process import container as nvidia

Kind = Literal["env", "container", "wheel", "path"]

WHEEL = "nvidia-pytriton"
WHEEL_GLIBC = (2, 35)
"""From the wheel's tag, manylinux_2_35."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Installation:
    """A tritonserver binary with what it needs around it."""

    binary: Path
    kind: Kind
    version: str | None = None
    """Triton's version in a container, the wheel's version for a wheel; None if unknown."""
    backends: Path | None = None
    """The backend directory to pass to Triton; None leaves its default, /opt/tritonserver/backends."""
    python: Path | None = None
    """The bin folder whose python3 the stubs must find first; None for a Triton that brings its own (container.py)."""
    libraries: tuple[Path, ...] = ()
    """Put at the front of LD_LIBRARY_PATH."""

    def arguments(self) -> list[str]:
        """The part of tritonserver's command line that depends on the installation."""
        return [f"--backend-directory={self.backends}"] if self.backends else []

    def environment(self, base: Mapping[str, str], python: Path = nvidia.PYTHON) -> dict[str, str]:
        """The environment of tritonserver, from that of this process, `base`; `python` is the image's own Python."""
        env = nvidia.environment(base, python)
        if self.python:
            env["PATH"] = f"{self.python}:{env['PATH']}"
        if self.libraries:
            given = base.get("LD_LIBRARY_PATH", "").split(":")
            env["LD_LIBRARY_PATH"] = ":".join([*map(str, self.libraries), *filter(None, given)])
        return env


def find(environ: Mapping[str, str] = os.environ, container: Path = nvidia.TRITON) -> Installation:
    """The Triton to use.

    Raises TritonError if there is none, if $TRITONSERVER is not a program, or if the wheel can't run here.
    """
    if named := environ.get("TRITONSERVER"):
        binary = Path(named)
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise TritonError(f"$TRITONSERVER is {named}, which is not an executable program.")
        return _plain(binary.absolute(), "env")
    if os.access(binary := container / "bin/tritonserver", os.X_OK):
        return _plain(binary, "container")
    spec = importlib.util.find_spec("pytriton")  # does not import it, which takes a second
    if spec and spec.origin:
        return _wheel(Path(spec.origin).parent / "tritonserver", environ)
    if on_path := shutil.which("tritonserver", path=environ.get("PATH")):
        return _plain(Path(on_path).absolute(), "path")
    raise TritonError(
        "No tritonserver found. Run inside NVIDIA's Triton container, `pip install nvidia-pytriton` "
        "(Linux, Python 3.10 to 3.12), put tritonserver on PATH, or name the binary in $TRITONSERVER."
    )


def _plain(binary: Path, kind: Kind) -> Installation:
    root = binary.resolve().parent.parent
    backends = root / "backends"
    version = root / "TRITON_VERSION"  # NVIDIA's containers have it
    return Installation(
        binary=binary,
        kind=kind,
        version=version.read_text().strip() if version.is_file() else None,
        backends=backends if backends.is_dir() else None,
    )


def _wheel(root: Path, environ: Mapping[str, str]) -> Installation:
    version = importlib.metadata.version(WHEEL)
    packages = root.parent.parent
    library = _check(root)
    sites = list(dict.fromkeys([str(packages), *(p for p in sys.path if p.endswith("-packages"))]))
    stub = root / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    key = repr((version, stub.stat().st_mtime_ns, sys.version, os.path.realpath(sys.executable), sites))
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder = cache_folder(environ) / f"triton-{version}-py{PYTHON}-{digest}"
    if not folder.exists():
        _build(folder, root, stub, sites)
    return Installation(
        binary=root / "bin/tritonserver",
        kind="wheel",
        version=version,
        backends=folder / "backends",
        python=folder / "python/bin",
        # The interpreter's own libpython first: with the system's, a different build, `import ssl` fails.
        libraries=(library.parent, packages / "nvidia_pytriton.libs"),
    )


def _check(root: Path) -> Path:
    """Raise TritonError if the wheel's Triton can't run with this Python; returns the shared libpython."""
    instead = "or use NVIDIA's Triton container, or another tritonserver through $TRITONSERVER."
    name, _, glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc" or tuple(map(int, glibc.split(".")[:2])) < WHEEL_GLIBC:
        found = f"glibc {glibc}" if glibc else "none"
        raise TritonError(
            f"The tritonserver of {WHEEL} needs glibc 2.35 or newer, and this system has {found}: "
            f"use a newer system (Ubuntu 22.04, Debian 12), {instead}"
        )
    if not (root / "python_backend_stubs" / PYTHON).is_dir():
        raise TritonError(f"{WHEEL} has no Python backend for Python {PYTHON}: use 3.10 to 3.12, {instead}")
    if int((numpy := importlib.metadata.version("numpy")).partition(".")[0]) >= 2:
        raise TritonError(
            f"The Triton of {WHEEL} reads and writes wrong tensors with numpy {numpy}: "
            f"`pip install 'numpy<2'`, {instead}"
        )
    library = f"libpython{PYTHON}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    for folder in filter(None, folders):
        if (path := Path(folder, library)).exists():
            return path
    raise TritonError(
        f"Triton's Python backend needs {library}, and this Python ({sys.executable}) has only a static one: "
        f"install the package libpython{PYTHON} (Debian, Ubuntu), build Python with --enable-shared "
        f"(PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {platform.python_version()}), {instead}"
    )


def _build(folder: Path, root: Path, stub: Path, sites: list[str]) -> None:
    """Make the backend directory and the stubs' python3; several processes may do so at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        backend = draft / "backends/python"
        shutil.copytree(root / "backends/python", backend, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(stub, backend / "triton_python_backend_stub")
        (backend / "triton_python_backend_stub").chmod(0o755)

        interpreter = Path(sys.executable).resolve()
        (draft / "python/bin").mkdir(parents=True)
        (draft / "python/bin/python3").symlink_to(interpreter)
        (draft / "python/pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
        site = draft / f"python/lib/python{PYTHON}/site-packages"
        site.mkdir(parents=True)
        (site / "service.pth").write_text("".join(f"{path}\n" for path in sites))
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """bento-trtllm in $XDG_CACHE_HOME or ~/.cache, or a private temporary folder if that is not possible."""
    home = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home(), ".cache"))
    folder = Path(home, "bento-trtllm")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass  # containers often run as a user without a home
    return private_folder(temporary_folder() / f"bento-trtllm-{os.getuid()}") / "cache"


def temporary_folder() -> Path:
    """$TMPDIR, or /tmp, even if it is full: Python would then choose another, and so would workers that start later."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if os.access(folder := os.environ.get(name, ""), os.W_OK | os.X_OK):
            return Path(folder).absolute()
    return Path("/tmp")


def private_folder(folder: Path) -> Path:
    """Make `folder`, for this user only. Raises TritonError if it belongs to another: anyone can write to /tmp."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or folder.is_symlink():
        raise TritonError(f"{folder} belongs to another user: remove it, or set $TMPDIR to another folder.")
    folder.chmod(0o700)
    return folder
