"""The pack is only read: from a read-only mount, by a user who may not write it; and folders may have any name."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import read_events, stream_events
from tests.support.demo import ANSWERS, PROMPT
from tests.support.serving import Service, serve

NOBODY = 65534


def answers(service: Service) -> bool:
    service.wait_ready(120)
    return read_events(stream_events(service, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]


def own_mounts() -> bool:
    """Whether this process may mount, in a namespace of its own."""
    probe = ["unshare", "--mount", "mount", "--bind", "/", "/"]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True, check=False).returncode == 0


mounting = pytest.mark.skipif(not own_mounts(), reason="only root may mount, and here even root may not")


def program(path: Path, *lines: str) -> str:
    """A Python for `serve` that first runs some lines of shell in a mount namespace of its own."""
    path.write_text("\n".join(["#!/bin/sh", 'exec unshare --mount sh -ec "$(tail -n +3 "$0")" sh "$@"', *lines, ""]))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach, which tmp_path is not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store(home: Path, public: Path) -> Path:
    # All of it: BentoML makes its folders where one is missing, or fails.
    shutil.copytree(home, public / "bentoml")
    (public / "bentoml").chmod(0o755)
    return public / "bentoml"


@mounting
def test_a_read_only_mount(store: Path, tmp_path: Path) -> None:
    """Of the whole store, and so of what is in it."""
    read_only = f"mount --bind {store} {store}; mount -o remount,bind,ro {store}"
    python = program(
        tmp_path / "python",
        read_only,
        f"if touch {store}/file 2> /dev/null; then exit 9; fi",
        f'exec {sys.executable} "$@"',
    )
    (temporary := tmp_path / "tmp").mkdir()
    with serve(store, tmp_path / "log.txt", python=python, TMPDIR=str(temporary)) as service:
        assert answers(service)


@mounting
def test_a_pack_of_another_user(store: Path, public: Path, tmp_path: Path) -> None:
    """As the user nobody, who owns nothing of the store."""
    (own := public / "own").mkdir()
    os.chown(own, NOBODY, NOBODY)
    lines = []
    python = Path(sys.executable).resolve()
    closed = next((folder for folder in python.parents if not folder.stat().st_mode & 1), None)
    if closed:  # as /root: only the way to this Python is opened, for the service alone
        inner = Path(*python.parts[: len(closed.parts) + 1])
        (public / "python").mkdir()
        lines += [f"mount --bind {inner} {public}/python", f"mount -t tmpfs -o mode=755 none {closed}"]
        lines += [f"mkdir {inner}", f"mount --bind {public}/python {inner}"]
    as_nobody = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    reachable = program(tmp_path / "probe", *lines, f"exec {as_nobody} {sys.executable} -c 'import bentoml'")
    if subprocess.run([reachable], capture_output=True, check=False).returncode:
        pytest.skip("the user nobody cannot reach this Python or its packages")
    wrapper = program(
        tmp_path / "python",
        *lines,
        f"if {as_nobody} touch {store}/file 2> /dev/null; then exit 9; fi",
        f'exec {as_nobody} {sys.executable} "$@"',
    )
    with serve(store, tmp_path / "log.txt", python=wrapper, HOME=str(own), TMPDIR=str(own)) as service:
        assert answers(service)
        assert service.engine().uids().real == NOBODY


def test_folders_of_any_name(home: Path, tmp_path: Path) -> None:
    """HOME, TMPDIR and the model store at once."""
    (folder := tmp_path / 'Zoë\'s "c$d" 日本').mkdir()
    shutil.copytree(home / "models", folder / "bentoml" / "models")
    (folder / "tmp").mkdir()
    kept: dict[str, Any] = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    with serve(folder / "bentoml", tmp_path / "log.txt", **kept) as service:
        assert answers(service)
        assert service.stop() == 0
    assert not list((folder / "tmp").rglob("triton-*"))
