"""Locks on single bytes of a file, which the kernel releases when their holder dies, however.

They are those of open file descriptions (fcntl(2), "Open file description locks").
"""

import fcntl
import os
import struct

FLOCK = "hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, process."""


def lock(file: int, byte: int) -> bool:
    """Lock it if nobody else has; what is locked by this file description already is so again."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(file: int, byte: int) -> None:
    """Unlock it."""
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


def foreign(file: int, byte: int) -> int | None:
    """The last byte of the range that another has locked, if this one is; None if not."""
    asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, start, length, _ = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(start + length - 1)
