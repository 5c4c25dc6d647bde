"""What lies beside a checkpoint in a PyTorch engine's folder, in folders of its own: eagle3's draft checkpoint, say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bento_trtllm.checkpoint.safetensors import read_shards
from bento_trtllm.engines.pytorch import weights
from bento_trtllm.errors import EngineError

DRAFT = "draft"
"""The folder of the draft checkpoint."""


@dataclass(frozen=True)
class Beside:
    """By where it is, in the engine's folder: files that are placed there, and texts that are written."""

    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Beside) -> Beside:
        return Beside({**self.files, **other.files}, {**self.texts, **other.texts})

    def place(self, engine: Path) -> None:
        """Raises OSError."""
        for name in (*self.files, *self.texts):
            (engine / name).parent.mkdir(parents=True, exist_ok=True)
        for name, source in self.files.items():
            weights.place([source], (engine / name).parent)
        for name, text in self.texts.items():
            (engine / name).write_text(text, "utf-8")


def draft(directory: str) -> Beside:
    """A draft checkpoint. Raises EngineError for what is none, CheckpointError for its weights."""
    path = Path(directory).expanduser()
    if not (path / "config.json").is_file():
        raise EngineError(f"--draft-checkpoint {directory} is no directory with a config.json: download it first")
    read_shards(path)
    return Beside({f"{DRAFT}/{file.name}": file for file in weights.files(path.resolve())})
