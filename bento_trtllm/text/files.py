"""Reads the checkpoint's JSON files about text."""

import json
from pathlib import Path
from typing import Any

from bento_trtllm.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no file. Raises CheckpointError for anything else."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8-sig"))  # some editors add a byte order mark
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data
