"""The pack that a service serves, settled once: in the process of `bentoml serve`, for all of its workers.

A worker that starts later, since another has died, must serve what they serve: `name` alone may mean another version
by then, and a version may have been packed anew (`--force`). So the first process checks the pack and leaves its
place and its seal in the environment, which its workers inherit.
"""

import os
from pathlib import Path

from bento_trtllm.errors import StoreError
from bento_trtllm.manifest import Manifest

VARIABLE = "BENTO_TRTLLM_PACK"


def pin(packed: Path) -> Manifest:
    """Check a packed model, and make it the one of this process' workers. Raises StoreError."""
    manifest = Manifest.open(packed)
    os.environ[VARIABLE] = f"{manifest.seal} {packed}"
    return manifest


def pinned() -> Path | None:
    """Where the pack is that this worker is to serve; None if nobody has settled that."""
    _, _, path = os.environ.get(VARIABLE, "").partition(" ")
    return Path(path) if path else None


def open_pinned(packed: Path) -> Manifest:
    """The manifest of a checked pack. Raises StoreError, also if it is not the one that was settled on."""
    manifest = Manifest.open(packed)
    seal, _, path = os.environ.get(VARIABLE, "").partition(" ")
    if path == str(packed) and seal != manifest.seal:
        raise _replaced(packed)
    return manifest


def verify(packed: Path, manifest: Manifest) -> None:
    """Raise StoreError if the pack is not, or no longer, the one of the manifest."""
    if Manifest.read(packed).seal != manifest.seal:
        raise _replaced(packed)
    manifest.check(packed)


def _replaced(packed: Path) -> StoreError:
    tag = f"{packed.parent.name}:{packed.name}"
    return StoreError(f"the model {tag} was packed anew since the service was started: start the service again")
