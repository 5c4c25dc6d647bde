"""What the processes of one service keep for those that come later: in memory that goes with the last of them.

It has no name in any folder: no other user can open it, no disk is too full for it, and nothing is left of it. The
process of `bentoml serve` makes it, and its workers inherit it. It has two places, and the older is written over: a
process that is killed meanwhile spoils that one only. Readers take no lock: by its checksum they know a place that is
half written.
"""

import errno
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from zlib import crc32

HEAD = struct.Struct(">IQI")
"""The checksum of all that follows, the number of the writing, and the length of what was written."""
NONE = (0, b"")
"""What a place has that nothing whole is in."""


class Kept:
    """The latest of what was kept."""

    def __init__(self, places: Sequence[int]) -> None:
        """Two open files, which stay open."""
        self._places = places

    @classmethod
    def make(cls) -> "Kept":
        """One that all processes inherit which this one starts with its files open. Raises OSError."""
        kept = cls([_make_file() for _ in range(2)])
        for place in kept._places:
            os.set_inheritable(place, True)
        return kept

    @classmethod
    def inherited(cls, name: str) -> "Kept | None":
        """That of a name, for this process alone from now on; None if nothing is kept there.

        Without these files its numbers are those of others, which must not be written over.
        """
        kept = cls([int(place) for place in name.split(",") if place])
        if kept.read() is None:
            return None
        for place in kept._places:
            os.set_inheritable(place, False)
        return kept

    @property
    def name(self) -> str:
        """What those who inherit it must know."""
        return ",".join(map(str, self._places))

    def read(self) -> bytes | None:
        """What was kept last; None if there is nothing."""
        number, content = max(self._found(), default=NONE)
        return content if number else None

    def write(self, content: bytes) -> None:
        """Keep this from now on. Raises OSError, and then what was kept is so still."""
        numbers = [number for number, _ in self._found()]
        record = struct.pack(">QI", max(numbers) + 1, len(content)) + content
        record = crc32(record).to_bytes(4, "big") + record
        if os.pwrite(self._places[numbers.index(min(numbers))], record, 0) < len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _found(self) -> Iterator[tuple[int, bytes]]:
        return map(_read, self._places)


def _make_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("bento-trtllm")
    # A Python that was built for a glibc before 2.27. This file is on a disk, and has no name either.
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read(place: int) -> tuple[int, bytes]:
    try:
        record = os.pread(place, os.fstat(place).st_size, 0)
    except OSError:  # no file, or none of ours
        return NONE
    if len(record) < HEAD.size:
        return NONE
    checksum, number, length = HEAD.unpack_from(record)
    end = HEAD.size + length
    whole = len(record) >= end and crc32(record[4:end]) == checksum
    return (number, record[HEAD.size : end]) if whole else NONE
