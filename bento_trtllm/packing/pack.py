"""Packing: from a checkpoint to a pack in the BentoML model store.

A pack is a directory: engine/ (what Triton runs), tokenizer/ (the checkpoint's own files), repository/ (Triton's model
repository) and manifest.json.
"""

import errno
import shutil
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from bento_trtllm.api.variants import check_names, names
from bento_trtllm.bento.home import home, models
from bento_trtllm.bento.store import default_name, draft, make_tag
from bento_trtllm.checkpoint.change import Change
from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines.base import Build, Engine
from bento_trtllm.errors import StoreError
from bento_trtllm.manifest import Manifest
from bento_trtllm.packing.command_line import Packing
from bento_trtllm.packing.repository import configurations, write_repository
from bento_trtllm.text.text import Text

# For what the plan does not count: the repository, file headers, the filesystem's own overhead.
MARGIN = 16 << 20

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def plan(asked: Packing, engine: Engine) -> dict[str, Any]:
    """What `pack` would do with the same arguments, after all of its checks; packs nothing.

    A Hugging Face id is downloaded to be checked.
    """
    checkpoint, change, build = _prepare(asked, engine)
    text = asked.tag or default_name(checkpoint.name)
    new = make_tag(text, force=asked.force)
    _check_space(build, changed=change is not None)
    configs = {config.name: text_format.MessageToString(config) for config in configurations(build)}
    return {
        "checkpoint": {
            "source": checkpoint.source,
            "revision": checkpoint.revision,
            "architecture": checkpoint.config.architecture,
            "parameters": checkpoint.parameters,
            "dtype": checkpoint.dtype,
            "bytes": checkpoint.nbytes,
            "config": checkpoint.config.model_dump(mode="json", exclude={"architectures"}),
            "bos_id": checkpoint.bos_id,
            "eos_ids": list(checkpoint.eos_ids),
        },
        "merged": change.plan() if change else None,
        "engine": build.plan(),
        "tokenizer": {
            str(file.relative_to(checkpoint.path)): file.stat().st_size for file in checkpoint.tokenizer_files
        },
        "repository": configs,
        "launch": build.launch(),
        "tag": str(new) if ":" in text else text,
    }


def pack(asked: Packing, engine: Engine) -> str:
    """Pack a checkpoint, and return its tag in the store, name:version.

    Raises BentoTRTLLMError, in one sentence; after that or any other exception the store is as it was before.
    """
    engine.check_machine()
    checkpoint, change, build = _prepare(asked, engine)
    new = make_tag(asked.tag or default_name(checkpoint.name), force=asked.force)
    _check_space(build, changed=change is not None)
    try:
        with draft(new, force=asked.force) as model:
            options: dict[str, str] = {}
            if change:
                build = engine.prepare(change.write(model.directory.parent / "changed"))
                # The checkpoint that was written has no revision of its own.
                options = {**change.options, **({"revision": checkpoint.revision} if checkpoint.revision else {})}
            manifest = _fill(model.directory, build, _describe(build, options))
            check_names([names(new.name, model.directory)])
            facts = manifest.model_dump(exclude={"format", "files", "seal", "build", "options"}, exclude_none=True)
            facts |= {manifest.engine: manifest.build} if manifest.build else {}
            labels = {key: str(facts[key]) for key in ("engine", "precision", "architecture")}
            model.publish(labels, facts, dict(manifest.versions))
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StoreError(
                f"the disk of {home()} is full, or its quota is used up: free some space, or set BENTOML_HOME "
                "to another disk"
            ) from error
        raise
    return str(new)


def _prepare(asked: Packing, engine: Engine) -> tuple[Checkpoint, Change | None, Build]:
    """What was asked for, read and checked."""
    checkpoint = find_checkpoint(asked.checkpoint, asked.revision)
    change = asked.change(checkpoint)
    build = engine.prepare(checkpoint)
    _check_text(checkpoint)
    return checkpoint, change, build


def _fill(directory: Path, build: Build, manifest: Manifest) -> Manifest:
    """Write everything, and return the manifest with what the engine proved of itself."""
    for name in ("engine", "tokenizer", "repository"):
        (directory / name).mkdir()
    build.write(directory / "engine", home() / manifest.engine)
    manifest = manifest.model_copy(update={"proof": build.prove(directory / "engine")})
    for file in build.checkpoint.tokenizer_files:
        copy = directory / "tokenizer" / file.relative_to(build.checkpoint.path)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
    write_repository(directory / "repository", build)
    manifest.write(directory)
    return manifest


def _describe(build: Build, options: dict[str, str]) -> Manifest:
    """`options` are those of packing itself that made other weights of the source's."""
    part, checkpoint = build.manifest_part(), build.checkpoint
    part["options"] = {**part["options"], **options}
    return Manifest(
        **part,
        source=checkpoint.source,
        revision=checkpoint.revision,
        # It identifies an engine that is bound to a machine, whatever the revision says.
        checksum=checkpoint.checksum if checkpoint.revision is None or part["build"] else None,
        architecture=checkpoint.config.architecture,
        parameters=checkpoint.parameters,
        dtype=checkpoint.dtype,
        vocab_size=checkpoint.config.vocab_size,
        bos_id=checkpoint.bos_id,
        eos_ids=list(checkpoint.eos_ids),
    )


def _check_text(checkpoint: Checkpoint) -> None:
    """Read what the service will read from the checkpoint. Raises CheckpointError for what it could not serve."""
    Text.read(checkpoint.path, end_ids=checkpoint.eos_ids).check()


def _check_space(build: Build, *, changed: bool) -> None:
    built = sum(build.plan()["files"].values())
    needed = built + sum(file.stat().st_size for file in build.checkpoint.tokenizer_files) + MARGIN
    needed += build.checkpoint.nbytes if changed else 0  # for a while
    existing = next(folder for folder in models().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StoreError(
            f"{home()} has {free / 1e9:.1f} GB free, and the model takes {needed / 1e9:.1f} GB: "
            "free some space, or set BENTOML_HOME to another disk"
        )
