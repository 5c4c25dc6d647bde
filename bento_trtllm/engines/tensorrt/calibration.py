"""The text that a quantization measures activations with, as TensorRT-LLM finds it.

From get_calib_dataloader in tensorrt_llm/quantization/quantize_by_modelopt.py, at 0.10.0 to 0.16.0 and 1.3.0rc3:

    pileval               downloaded from the-eye.eu
    …cnn_dailymail…       a name on Hugging Face or a directory, with that in it
    any other directory   from 0.11.0 on: a data set for `datasets`, with a split `train` and a column `text`
    …scienceqa…           in 1.x: pictures, for models with a processor; a tokenizer of text fails on it

Anything else it refuses only when the model is loaded.
"""

import csv
import json
from pathlib import Path

from bento_trtllm.engines.tensorrt.releases import Release
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings

PILE, NEWS, COLUMN = "pileval", "cnn_dailymail", "text"


def dataset(settings: TensorRTSettings) -> str:
    """The data set as TensorRT-LLM is to be given it: a directory by its absolute path."""
    name = settings.calibration_dataset
    return str(Path(name).expanduser().resolve()) if _is_directory(name) else name


def contents(settings: TensorRTSettings) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a directory: with another content, it is another calibration."""
    if settings.quantization == "none" or not _is_directory(settings.calibration_dataset):
        return []
    root = Path(dataset(settings))
    files = [(path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file()]
    return [(str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns) for path, stat in files]


def dataset_fault(settings: TensorRTSettings, release: Release) -> str | None:
    """Why the release cannot quantise with the data set of the settings; None if it can, as far as can be seen."""
    if settings.quantization == "none":
        return None
    name = settings.calibration_dataset
    choice = f"{NEWS} (also below another name or directory), {PILE}"
    if release.version.calibration_directory:
        choice += f", or a directory with a data set that has a column `{COLUMN}`"
    if "scienceqa" in name.lower() or "science_qa" in name.lower():
        return f"--calibration-dataset {name} has pictures, which no Llama of text can read: take {choice}"
    if name == PILE or NEWS in name:
        return None
    if not release.version.calibration_directory or not _is_directory(name):
        missing = "" if _is_directory(name) else ", and there is no directory of that name"
        return (
            f"TensorRT-LLM {release.tensorrt_llm} of release {release.tag} does not quantise with "
            f"--calibration-dataset {name}{missing}: take {choice}"
        )
    columns = _columns(Path(dataset(settings)))
    if columns is not None and COLUMN not in columns:
        found = ", ".join(columns) or "none"
        return f"--calibration-dataset {name} has no column `{COLUMN}` (its columns: {found})"
    return None


def _is_directory(name: str) -> bool:
    return Path(name).expanduser().is_dir()


def _columns(root: Path) -> list[str] | None:
    """The columns of the first file that tells them without a library; None where none does."""
    for path in sorted(root.rglob("*")):
        try:
            if path.suffix == ".jsonl":
                with path.open(encoding="utf-8") as lines:
                    record = json.loads(next(lines))
                if isinstance(record, dict):
                    return list(record)
            elif path.suffix == ".csv":
                with path.open(encoding="utf-8", newline="") as file:
                    return next(csv.reader(file))
        except (ValueError, StopIteration, OSError):
            continue
    return None
