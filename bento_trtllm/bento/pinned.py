"""What a service serves, pinned once: in the process of `bentoml serve`, for all of its workers.

A worker that starts later, because another has died, must serve what the others serve: by then `name` alone may mean
another version, and a version may have been packed again (`--force`). So the first process checks the packs and puts
their paths and seals into the environment, which its workers inherit. The named keys may change, and may be many: the
environment says where they are kept.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import bentoml
from pydantic import TypeAdapter

from bento_trtllm.errors import StoreError
from bento_trtllm.keys.kept import Kept
from bento_trtllm.manifest import Manifest, Proof, tag_of

LOGGER = logging.getLogger("bento_trtllm")
KEYS = "BENTO_TRTLLM_KEPT_KEYS"
PACKS = "BENTO_TRTLLM_PACKS"
PROOFS = "BENTO_TRTLLM_PROOFS"
Seals = TypeAdapter(dict[Path, str])
"""By pack, in the order in which they were given."""
Proofs = TypeAdapter(dict[Path, Proof])


def pin(packs: Sequence[Path]) -> list[Manifest]:
    """Check packs, and pin them for this process's workers. Raises StoreError."""
    manifests = [Manifest.open(packed) for packed in packs]
    seals = {packed: manifest.seal for packed, manifest in zip(packs, manifests, strict=True)}
    os.environ[PACKS] = Seals.dump_json(seals).decode()
    return manifests


def pin_proofs(proofs: Mapping[Path, Proof | None]) -> None:
    """Tell this process's workers what the packs have shown of themselves on this machine."""
    os.environ[PROOFS] = Proofs.dump_json({packed: proof for packed, proof in proofs.items() if proof}).decode()


def pinned_proof(packed: Path) -> Proof | None:
    """What they were told of a pack."""
    return Proofs.validate_json(os.environ.get(PROOFS, "{}")).get(packed)


def pinned() -> list[Path]:
    """The packs that this worker is to serve; none where none are pinned."""
    return list(_seals())


def open_pinned(packed: Path) -> Manifest:
    """The manifest of a pack, which is checked first. Raises StoreError, also if it is not the pinned one."""
    manifest = Manifest.open(packed)
    if _seals().get(packed, manifest.seal) != manifest.seal:
        raise _replaced(packed)
    return manifest


def kept_keys() -> Kept | None:
    """Where this service's processes keep the named keys that were read last; None where they cannot be kept."""
    if bentoml.server_context.worker_index is not None:
        return Kept.inherited(os.environ.get(KEYS, ""))
    os.environ.pop(KEYS, None)  # another service's, which has started this one
    try:
        kept = Kept.make()
    except OSError as error:
        LOGGER.warning("The named keys are not kept for workers that replace others: %s", error.strerror)
        return None
    os.environ[KEYS] = kept.name
    return kept


def _seals() -> dict[Path, str]:
    return Seals.validate_json(os.environ.get(PACKS, "{}"))


def verify(packed: Path, manifest: Manifest) -> None:
    """Raise StoreError if the pack is not, or no longer, the one of the manifest."""
    if Manifest.read(packed).seal != manifest.seal:
        raise _replaced(packed)
    manifest.check(packed)


def _replaced(packed: Path) -> StoreError:
    return StoreError(f"the model {tag_of(packed)} was packed again after the service was started: restart the service")
