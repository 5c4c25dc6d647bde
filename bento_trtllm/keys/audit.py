"""A log of who used what: a line of JSON for each answer, and no text of anybody in it.

All workers write to one file: each line with one write at its end, so that none is torn. A file that has become too
long gets a number, and those before it a higher one; whoever finds that it writes to a file of another name opens the
new one. A line that was on its way meanwhile is in the file with the number.

What is in /dev, as /dev/stdout, or a link to it, is somebody else's file, or none: it is written to, and otherwise left
as it is. /dev/shm is a folder like others.
"""

import fcntl
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from bento_trtllm.errors import SettingsError

LOGGER = logging.getLogger("bento_trtllm.keys")
TOLD_EVERY_S = 60.0
MOST_LINKS = 40
"""In a row, as Linux has it (path_resolution(7))."""


def check(path: Path) -> None:
    """Make the file, or leave the one that is there as it is. Raises SettingsError if it cannot be written to."""
    try:
        os.close(_open(path))
    except OSError as error:
        raise SettingsError(f"the audit log, {path}, cannot be written: {error.strerror}") from error


def _open(path: Path) -> int:
    # A pipe that nobody reads must hold up no worker: then lines are lost.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not _is_lent(path):
        os.fchmod(file, 0o600)
    return file


def _is_lent(path: Path) -> bool:
    # Not Path.resolve(): what /dev/stdout leads to has a name of its own, or one that nothing can be opened by.
    for _ in range(MOST_LINKS):
        if _is_device(path) or _is_device(path := path.parent.resolve() / path.name):
            return True
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return False


def _is_device(path: Path) -> bool:
    return any(map(path.is_relative_to, ("/dev", "/proc"))) and not path.is_relative_to("/dev/shm")


class AuditLog:
    """One worker's hold of it. Readable by the service's user only."""

    def __init__(self, path: Path, most_bytes: int, most_files: int) -> None:
        """At most so many files, that of now included, each of some `most_bytes`."""
        # Of a link, the file that it leads to gets numbers.
        lent = _is_lent(path)
        self._path = path if lent else path.resolve()
        self._most_bytes = math.inf if lent else most_bytes
        self._most_files = most_files
        self._file = -1
        self._torn = False
        self._told_at = -TOLD_EVERY_S
        self.lost = 0
        """Lines that could not be written."""

    def write(self, entry: Mapping[str, object]) -> None:
        """Add a line; a disk that is full loses it, and is told of in the service's log."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": now, **entry}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._place()
            data = b"\n" + line if self._torn else line
            self._torn = os.write(self._file, data) < len(data)
            if self._torn:
                raise OSError("no room for a whole line")
        except OSError as error:
            self._lose(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _place(self) -> None:
        """Have the file of now open, with room in it."""
        if self._file < 0 or not self._is_current():
            self._open()
        if os.fstat(self._file).st_size >= self._most_bytes:
            self._rotate()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        self.close()
        self._file = _open(self._path)

    def _rotate(self) -> None:
        """Give the file a number, unless another worker is doing so: then it has a few lines more."""
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_current():
                for number in range(self._most_files - 2, 0, -1):
                    with suppress(FileNotFoundError):
                        Path(f"{self._path}.{number}").replace(f"{self._path}.{number + 1}")
                if self._most_files > 1:
                    self._path.replace(f"{self._path}.1")
                else:
                    self._path.unlink()
            self._open()
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            LOGGER.error("%s: lines of the audit log are lost, so far %d: %s", self._path, self.lost, error)
