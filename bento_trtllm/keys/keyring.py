"""The keys that are valid now: those of the settings, and those of keys.yaml, which is read again when it changes.

A worker that replaces another begins with what the others have, whatever the file is by then: it may be wrong, gone,
or half written. From then on it looks at the file as they do.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bento_trtllm.errors import SettingsError
from bento_trtllm.keys import file
from bento_trtllm.keys.kept import Kept
from bento_trtllm.keys.key import UNNAMED, Key, digest

LOGGER = logging.getLogger("bento_trtllm.keys")
LOOK_S = 1.0
"""How often the file is looked at. One that has changed is read once it has been the same for so long."""


@dataclass(frozen=True)
class FileVersion:
    """What tells one state of the file from another: all are 0 where there is none."""

    inode: int = 0
    changed_ns: int = 0
    size: int = 0

    @classmethod
    def of(cls, path: Path) -> "FileVersion":
        """That of a file, behind links: what mounts a secret changes those.

        Its time is the one that a change of owner or mode changes, too: a file may be wrong for who may read it.
        """
        try:
            found = path.stat()
        except OSError:
            return cls()
        return cls(found.st_ino, found.st_ctime_ns, found.st_size)


class Keyring:
    """The keys of one worker."""

    def __init__(self, unnamed: Sequence[str], path: Path | None = None, kept: Kept | None = None) -> None:
        """Take the named keys that are kept, else read them. Raises SettingsError for a file that cannot be used."""
        self.path = path
        self.changed: Callable[[], None] = lambda: None
        """Called when there are other named keys."""
        self.named: tuple[Key, ...] = ()
        self.fault = ""
        """What is wrong with the file as it is now, as a sentence; the keys are those of the one before."""
        self.reloads = 0
        self._unnamed = [Key(UNNAMED, digest(key.encode())) for key in unnamed]
        self._kept = kept
        self._read_version = self._seen_version = FileVersion()
        self._by_digest: dict[bytes, Key] = {}
        if path:
            self._read_version = self._seen_version = FileVersion.of(path)
            self.named = tuple(self._recall() or self._read(path))
        self._index()

    def __bool__(self) -> bool:
        """Whether any key is wanted."""
        return bool(self._by_digest)

    def accountable(self) -> list[Key]:
        """The keys that have an account: none where none has a name, else those, and the others together."""
        return [*self.named, Key(UNNAMED, b"")] if self.named else []

    def find(self, given: bytes) -> Key | None:
        """The key that was sent, valid or expired; None if it is none."""
        return self._by_digest.get(digest(given))

    async def watch(self) -> None:
        """Read the file again whenever it has changed, for ever."""
        while self.path:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Read the file if it has changed, and has been the same since the last look."""
        assert self.path
        version = FileVersion.of(self.path)
        stable, self._seen_version = version == self._seen_version, version
        if version == self._read_version or not stable:
            return
        self._read_version = version
        try:
            named = await asyncio.to_thread(self._read, self.path)
        except SettingsError as error:
            self.fault = str(error)
            LOGGER.error("%s; the keys stay as they were", self.fault)
            return
        self.named, self.fault = tuple(named), ""
        self.reloads += 1
        self._index()
        LOGGER.info("%s was read again: it has %d key%s", self.path, len(named), "s" * (len(named) != 1))
        self.changed()

    def _read(self, path: Path) -> list[Key]:
        """Read the file, and keep its keys. Raises SettingsError."""
        keys = file.read(path)
        if self._kept:
            try:
                self._kept.write(json.dumps(astuple(self._read_version)).encode() + b"\n" + file.dump(keys))
            except OSError as error:
                LOGGER.warning("%s is not kept for workers that replace others: %s", path, error.strerror)
        return keys

    def _recall(self) -> list[Key]:
        """The keys that are kept, and which version of the file has them; none where none are kept."""
        content = self._kept.read() if self._kept else None
        if content is None:
            return []
        version, _, keys = content.partition(b"\n")
        self._read_version = FileVersion(*json.loads(version))
        return file.load(keys)

    def _index(self) -> None:
        # A key that has a name counts as that one.
        self._by_digest = {key.digest: key for key in (*self._unnamed, *self.named)}


def now() -> datetime:
    """The time that keys expire by."""
    return datetime.now(timezone.utc)
