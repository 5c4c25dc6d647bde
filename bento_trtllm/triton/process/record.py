"""A file in which processes of one machine tell each other something, again and again, also while its disk is full.

Its room is taken when it is made, and all of it is written over each time. A filesystem that never writes in place,
such as btrfs, may want room all the same. Readers take no lock: by its checksum they know a record that is half there.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any
from zlib import crc32

SIZE = 4096
"""Of the file: a page, and a block of most filesystems, which they write as one."""
HEAD = 4
CUT = "…".encode()


class Record:
    """The latest of what was told: data, and the reason for it as a sentence for a person."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        """Take its room; again is as good as once. Raises OSError, also where the disk is full."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Another worker may be writing; where a filesystem cannot do it, the C library writes zeros itself.
            if os.fstat(file).st_size < SIZE:
                os.posix_fallocate(file, 0, SIZE)
        finally:
            os.close(file)

    def write(self, data: object, reason: str) -> None:
        """Tell it, in the place of what was told before; a long reason is shortened. Raises OSError."""
        body = json.dumps(data).encode() + b"\n" + reason.encode(errors="replace")
        if len(body) > SIZE - HEAD:
            body = body[: SIZE - HEAD - len(CUT)] + CUT
        body = body.ljust(SIZE - HEAD, b"\0")
        file = os.open(self._path, os.O_WRONLY)
        try:
            if os.pwrite(file, crc32(body).to_bytes(HEAD, "big") + body, 0) < SIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)

    def read(self) -> tuple[Any, str] | None:
        """What was told last; None if there is nothing, or nothing whole."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        head, body = content[:HEAD], content[HEAD:]
        if len(content) != SIZE or crc32(body) != int.from_bytes(head, "big"):
            return None
        data, _, reason = body.rstrip(b"\0").partition(b"\n")
        return json.loads(data), reason.decode(errors="ignore")  # a character may have been cut in two
