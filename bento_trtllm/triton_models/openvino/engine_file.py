"""The engine's file, for a reader that wants to write it: the pack may be anybody's, or read-only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def openable(engine: Path, folder: Path) -> Iterator[Path]:
    """The engine's file where OpenVINO GenAI can open it; what is in `folder` meanwhile is gone afterwards.

    Its GGUF reader opens with O_RDWR and maps the file for writing, though it only reads (2026.4, gguf_open of
    gguf-tools, seen with strace). Where this process may not write the file, it gets a copy, which is needed until
    the engine is loaded. Raises RuntimeError where the copy has no place.
    """
    if os.access(engine, os.W_OK):
        yield engine
        return
    copy = folder / engine.name
    try:
        try:
            shutil.copyfile(engine, copy)
        except OSError as error:
            size = engine.stat().st_size / 1e6
            raise RuntimeError(
                f"{engine.name} cannot be opened for writing, as OpenVINO's reader does, and a copy of {size:,.0f} MB "
                f"could not be made in $TMPDIR ({error.strerror}): set it to a disk with room, or let this user write "
                "the packed model"
            ) from error
        yield copy
    finally:
        copy.unlink(missing_ok=True)
