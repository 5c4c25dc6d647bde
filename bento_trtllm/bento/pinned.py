"""The pack that a service serves, pinned once: in the process of `bentoml serve`, for all of its workers.

A worker that starts later, because another has died, must serve what the others serve: by then `name` alone may mean
another version, and a version may have been packed again (`--force`). So the first process checks the pack and puts its
path and seal into the environment, which its workers inherit.
"""

import os
from pathlib import Path

from bento_trtllm.errors import StoreError
from bento_trtllm.manifest import Manifest, Proof, tag_of

VARIABLE = "BENTO_TRTLLM_PACK"
PROOF = "BENTO_TRTLLM_PROOF"


def pin(packed: Path) -> Manifest:
    """Check a pack, and pin it for this process's workers. Raises StoreError."""
    manifest = Manifest.open(packed)
    os.environ[VARIABLE] = f"{manifest.seal} {packed}"
    return manifest


def pin_proof(proof: Proof | None) -> None:
    """Tell this process's workers what the pack has shown of itself on this machine."""
    os.environ.pop(PROOF, None)
    if proof:
        os.environ[PROOF] = proof.model_dump_json()


def pinned_proof() -> Proof | None:
    """What they were told."""
    text = os.environ.get(PROOF)
    return Proof.model_validate_json(text) if text else None


def pinned() -> Path | None:
    """The path of the pack that this worker is to serve; None if none is pinned."""
    _, _, path = os.environ.get(VARIABLE, "").partition(" ")
    return Path(path) if path else None


def open_pinned(packed: Path) -> Manifest:
    """The manifest of a pack, which is checked first. Raises StoreError, also if it is not the pinned one."""
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
    return StoreError(f"the model {tag_of(packed)} was packed again after the service was started: restart the service")
