"""The BentoML model store: adds a pack, all or nothing, and finds it again.

`bentoml.models.create` copies a temporary directory into the store, which takes the disk space twice and leaves half a
model behind when it is interrupted. Here a pack is made on the store's own filesystem and renamed into place; BentoML
still writes its own description of it, model.yaml.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bentoml
from bentoml import Tag
from bentoml.exceptions import BentoMLException, NotFound
from bentoml.models import ModelContext

from bento_trtllm.bento.home import home, models
from bento_trtllm.bento.refusal import refusing
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.errors import StoreError
from bento_trtllm.manifest import Manifest
from bento_trtllm.triton.process.repository import engine_config, read_parameters

PREFIX = "packing-"
FOLDERS = ("bentos", "envs", "tmp")
"""What BentoML 1.4.40 creates in its home on first use, besides models; the user who serves may not write there."""
PACK = "python pack_model.py openvino --checkpoint DIR_OR_HUGGING_FACE_ID"


def find_model(tag: str) -> bentoml.Model:
    """The model of a tag, `name` or `name:version`; without a version the latest. Raises StoreError."""
    try:
        return bentoml.models.get(tag.lower())
    except NotFound as error:
        raise StoreError(_missing(tag)) from error
    except (ValueError, BentoMLException) as error:
        raise StoreError(f"the model {tag} cannot be read from the store: {error}") from error


def check(tag: str) -> str:
    """Read every byte of a pack, and have its engine prove itself on this machine; returns what was found, a sentence
    each.

    Raises StoreError if it is damaged, or EngineError if the engine computes something other than its checkpoint says.
    """
    model = find_model(tag)
    packed = Path(model.path)
    manifest = Manifest.open(packed, full=True)
    size = sum(file.size for file in manifest.files.values()) / 1e6
    intact = f"{model.tag} is as it was packed: {len(manifest.files)} files, {size:,.1f} MB"
    if manifest.proof is None:
        return intact
    runtime = make_runtime(manifest)
    proof = runtime.prove_again(packed, runtime.parameters(Settings(), read_parameters(engine_config(packed))))
    return f"{intact}\nit computes what its checkpoint says: {proof}"


def _missing(tag: str) -> str:
    return f"the model store has no model {tag}: pack one with {PACK} --tag {tag}; the store is {models()}"


def default_name(name: str) -> str:
    """A checkpoint's name in a form that BentoML accepts: lower-case letters and digits, with -_. between them."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower())[:63].strip("-._") or "llama"


def make_tag(text: str, *, force: bool = False) -> Tag:
    """A tag to pack under: `name:version`, or `name`, which gets a new version.

    Raises StoreError for an invalid tag and, without `force`, for one that is already in the store.
    """
    try:
        tag = Tag.from_taglike(text.lower())
        tag = tag if tag.version else tag.make_new_version()
    except (ValueError, BentoMLException) as error:
        raise StoreError(
            f"{text} is not a tag: give a name or name:version in lower-case letters, digits, and -_. between"
        ) from error
    if tag.version == "latest":
        raise StoreError(f"{text} is not a tag to pack under: leave out the version, and the pack becomes the latest")
    if not force and (models() / tag.path()).exists():
        raise StoreError(f"the model store has {tag} already: choose another --tag, or --force to replace it")
    return tag


@dataclass(frozen=True)
class Draft:
    """A pack being made: `directory` is on the store's filesystem, and is removed unless it is published."""

    tag: Tag
    directory: Path
    force: bool

    def publish(self, labels: dict[str, str], metadata: dict[str, Any], versions: dict[str, str]) -> None:
        """Move the directory into the store, as the latest version of its name. Raises StoreError."""
        self._describe(labels, metadata, versions)
        place, old = models() / self.tag.path(), self.directory.parent / "old"
        place.parent.mkdir(parents=True, exist_ok=True)
        latest = self.directory.parent / "latest"
        latest.write_text(str(self.tag.version), "utf-8")
        try:
            if self.force and place.exists():
                place.rename(old)
            self.directory.rename(place)
        except BaseException as error:
            if old.exists() and not place.exists():
                old.rename(place)
            with suppress(OSError):
                place.parent.rmdir()
            if isinstance(error, OSError):
                raise StoreError(f"the model store could not take {self.tag}: {error}") from error
            raise
        latest.replace(models() / self.tag.latest_path())

    def _describe(self, labels: dict[str, str], metadata: dict[str, Any], versions: dict[str, str]) -> None:
        # BentoML creates a temporary directory with this object and removes it with the object, at the end of this
        # method.
        model = bentoml.Model.create(
            self.tag,
            module="",
            api_version="v1",
            signatures={},
            labels=labels,
            metadata=metadata,
            context=ModelContext(framework_name=labels.get("engine", ""), framework_versions=versions),
        )
        with (self.directory / "model.yaml").open("w", encoding="utf-8") as file:
            model.info.dump(file)


@contextmanager
def draft(tag: Tag, *, force: bool = False) -> Iterator[Draft]:
    """A directory to make a pack in; it is removed at the end unless it was published."""
    folder = models().parent / "tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        models().mkdir(exist_ok=True)
        for name in FOLDERS:
            (home() / name).mkdir(exist_ok=True)
        if models().stat().st_dev != folder.stat().st_dev:
            raise StoreError(f"{models()} is a separate filesystem: mount the whole of {home()} instead")
        _sweep(folder)
        stage = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    except OSError as error:
        raise StoreError(f"the BentoML model store at {home()} cannot be written: {error}") from error
    lock = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (stage / "model").mkdir()
        yield Draft(tag, stage / "model", force)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove what an interrupted packing (SIGKILL, power loss) left: drafts whose lock no process holds."""
    for stage in folder.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            # A draft made within the last minute may be about to take its lock.
            if time.time() - stage.stat().st_mtime < 60:
                continue
            lock = os.open(stage, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stage, ignore_errors=True)
            finally:
                os.close(lock)


class PackedModel(bentoml.models.BentoModel):  # type: ignore[misc]
    """A pack as an attribute of a BentoML service: it becomes part of the Bento."""

    def resolve(self, base_path: Any = None, *args: Any) -> bentoml.Model:
        """The stored model. Raises Refused with the command that packs it."""
        with refusing():
            try:
                model: bentoml.Model = super().resolve(base_path, *args)
                return model
            except BentoMLException as error:
                raise StoreError(_missing(str(self.tag))) from error


def packed_model(tag: str) -> PackedModel:
    """The model of a tag, which need not be in the store yet. Raises StoreError for an invalid tag."""
    try:
        return PackedModel(tag)
    except (ValueError, BentoMLException) as error:
        form = "a name or name:version in lower-case letters, digits, and -_. between"
        raise StoreError(
            f"{tag} is not a model's tag: give {form}" + ("; several models go in `models`" if "," in tag else "")
        ) from error
