"""A model packed when it is first asked for: the demo, or a checkpoint that is named, packed for OpenVINO.

The version is a hash of all that goes into the pack, so another checkpoint, precision or checkout is packed anew.
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from bento_trtllm.bento.home import models
from bento_trtllm.checkout.environment import ROOT, run

DEMO = ROOT / "assets" / "demo-llama"
Packing = tuple[str, list[str]]
"""A tag, and what pack_model.py is told besides."""


def packed(checkpoint: str = "", precision: str = "") -> str:
    """The tag of a model that is in the store now; what packing says goes to stderr.

    Raises CheckpointError, OSError, and SystemExit with the exit code of pack_model.py, which has said why.
    """
    tag, options = named(checkpoint, precision) if checkpoint else demo()
    if not (models() / tag.replace(":", "/") / "manifest.json").exists():
        run([sys.executable, "pack_model.py", "openvino", *options, "--tag", tag])
    return tag


def demo() -> Packing:
    """In f32, which is computed exactly: tests know its answers."""
    version = _version([*_files(DEMO), *_files(ROOT / "bento_trtllm")])
    return f"{DEMO.name}:{version}", ["--checkpoint", str(DEMO), "--precision", "f32"]


def named(argument: str, precision: str = "") -> Packing:
    """Of a checkpoint, which is downloaded where it is a Hugging Face id."""
    # Imported here: the demo, which needs none of it, is to start at once.
    from bento_trtllm.bento.store import default_name  # noqa: PLC0415
    from bento_trtllm.checkpoint.huggingface import find_checkpoint  # noqa: PLC0415
    from bento_trtllm.engines.openvino.options import OpenVINOOptions  # noqa: PLC0415

    # So that who names the default gets the pack of who does not.
    precision = precision or OpenVINOOptions().precision
    checkpoint = find_checkpoint(argument)
    # The weights are not read for it: what has changed in a directory shows in the times of its files.
    stats = [(file.name, file.stat()) for file in checkpoint.files]
    known = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    version = _version(_files(ROOT / "bento_trtllm"), precision, checkpoint.revision or "\n".join(known))
    options = ["--checkpoint", argument if checkpoint.revision else str(checkpoint.path)]
    options += ["--revision", checkpoint.revision] if checkpoint.revision else []
    return f"{default_name(checkpoint.name)}:{version}", [*options, "--precision", precision]


def _files(folder: Path) -> list[Path]:
    # What Python compiles it writes under other names first, which may be gone when they are read.
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file.parent.name != "__pycache__"]


def _version(files: Iterable[Path], *texts: str) -> str:
    """12 digits of a hash."""
    digest = hashlib.sha256("\0".join(texts).encode())
    for file in files:
        digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
