"""A small disk, which may be full."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny import until


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A disk of two megabytes, in a new folder."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"only who may mount a disk can fill one without harm: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Nothing more fits on it until the end of the block, whatever is removed meanwhile."""
    ballast, empty = disk / "ballast", threading.Event()

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            while not empty.wait(0.005):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * 4096):
                        pass

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        until(lambda: not os.statvfs(disk).f_bavail)
        yield
    finally:
        empty.set()
        filling.join()
        ballast.unlink()
