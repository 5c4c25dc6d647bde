"""What may become of a checkpoint before it is packed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from bento_trtllm.checkpoint.checkpoint import Checkpoint


class Change(Protocol):
    """Other weights of the same names and types: merge.Merge. It has been checked, and not been made."""

    @property
    def options(self) -> Mapping[str, str]:
        """What was asked for, by its name on the command line, as manifest.json keeps it."""
        ...

    def plan(self) -> JsonValue:
        """What it does, for `--dry-run`."""
        ...

    def write(self, directory: Path) -> Checkpoint:
        """Make a new directory with the changed checkpoint. Raises CheckpointError, OSError."""
        ...
