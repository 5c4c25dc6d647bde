"""The inventory of a pack: every file with its size and checksums, and whether they still match.

There are two checks. The *fast* one is made at every start: every file must be there, none may have been added, and
every size must match; files of up to WHOLE bytes are hashed whole, larger ones at both ends and at SAMPLES evenly
spaced pieces in between. This finds files that are missing, truncated, longer, exchanged or only partly copied, and any
damage as long as the distance between two pieces: a 257th of the file. It reads at most some 33 MB of a file, whatever
its size. It may miss smaller damage within a large file; the *full* check reads everything.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from bento_trtllm.errors import StoreError

FOLDERS = ("engine", "tokenizer", "repository")
"""What a pack holds besides manifest.json, which seals itself, and BentoML's own model.yaml."""
WHOLE = 32 << 20
SAMPLES = 256
PIECE = 4 << 10
END = 64 << 10
BLOCK = 4 << 20


class PackedFile(BaseModel):
    """One file: size in bytes, SHA-256 as `sha256sum` shows it, and that of its samples if it is larger than WHOLE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str
    sampled: str | None = None


Inventory = dict[str, PackedFile]
"""By path, relative to the pack, with slashes."""


def take(directory: Path) -> Inventory:
    """The inventory of a directory: reads every byte, once. Raises OSError."""
    paths = _present(directory)
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    with _bar(sum(sizes.values())) as bar:
        return {
            name: PackedFile(
                size=sizes[name],
                sha256=_sha256(path, bar),
                sampled=_sampled(path, sizes[name]) if sizes[name] > WHOLE else None,
            )
            for name, path in paths.items()
        }


def check(directory: Path, inventory: Mapping[str, PackedFile], *, full: bool = False) -> None:
    """Raise StoreError if a file is not as it was packed; it names the first such file and what is wrong with it."""
    try:
        present = _present(directory)
        if missing := sorted(inventory.keys() - present.keys()):
            raise StoreError(f"{missing[0]} is missing")
        if foreign := sorted(present.keys() - inventory.keys()):
            raise StoreError(f"{foreign[0]} was not packed")
        # Sizes first, which cost nothing.
        for name, file in inventory.items():
            if (size := present[name].stat().st_size) != file.size:
                raise StoreError(f"{name} has {size:,} bytes, and was packed with {file.size:,}")
        with _bar(sum(file.size for file in inventory.values()), show=full) as bar:
            for name, file in inventory.items():
                if file.sampled and not full:
                    same = _sampled(present[name], file.size) == file.sampled
                else:
                    same = _sha256(present[name], bar) == file.sha256
                if not same:
                    raise StoreError(f"{name} has other content than was packed")
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}") from error


def _present(directory: Path) -> dict[str, Path]:
    return dict(sorted((path.relative_to(directory).as_posix(), path) for path in _walk(directory)))


def _walk(directory: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for root, _, names in os.walk(directory / folder, onerror=_unreadable, followlinks=True):
            yield from (Path(root, name) for name in names)


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a missing folder is reported by its missing files
        raise error


def _sha256(path: Path, bar: "tqdm[Any]") -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _sampled(path: Path, size: int) -> str:
    """SHA-256 of both ends and of the pieces between, of a file larger than WHOLE."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        digest.update(os.pread(file.fileno(), END, 0))
        for i in range(1, SAMPLES + 1):
            digest.update(os.pread(file.fileno(), PIECE, size * i // (SAMPLES + 1)))
        digest.update(os.pread(file.fileno(), END, size - END))
    return digest.hexdigest()


def _bar(total: int, *, show: bool = True) -> "tqdm[Any]":
    # Only on a terminal, and only if reading takes a while.
    return tqdm(total=total, desc="checksums", unit="B", unit_scale=True, disable=None if show else True, delay=1)
