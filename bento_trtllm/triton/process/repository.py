"""A pack's Triton repository, prepared for one start of Triton.

A packed repository contains no absolute path, so that it can move between machines: path parameters are relative to the
pack's directory, and made absolute at each launch.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format

from bento_trtllm.triton.process.safe_path import safe_path
from bento_trtllm.triton.wire.model_config import ENGINE, pb

CONFIG = "config.pbtxt"
PATH_PARAMETERS = ("gpt_model_path", "tokenizer_dir", "xgrammar_tokenizer_info_path")


def place_repository(packed: Path, directory: Path, overrides: Mapping[str, str], *, text: bool = True) -> Path:
    """Make a repository from a pack that Triton can load, and return its path.

    The models' few small files are copied, and their configurations rewritten: paths are made absolute (or safe,
    safe_path.py), and the parameters of `tensorrt_llm` in `overrides` are replaced. Without `text`, which only programs
    other than the service send to Triton, the engine is the only model.
    """
    repository = directory / "repository"
    visible = safe_path(packed, directory, "packed")
    for source in sorted((packed / "repository").iterdir()):
        config = read_config(source)
        if not text and config.name != ENGINE:
            continue
        if config.name == ENGINE:
            for name, value in overrides.items():
                config.parameters[name].string_value = value
        for name in PATH_PARAMETERS:
            if name in config.parameters:
                relative = config.parameters[name].string_value
                config.parameters[name].string_value = str(visible / relative)
        model = repository / source.name
        model.mkdir(parents=True)
        # Copied, since Python writes __pycache__ beside what it imports, and the store is only to be read.
        shutil.copytree(source / "1", model / "1")
        (model / CONFIG).write_text(text_format.MessageToString(config), "utf-8")
    return repository


def read_config(model: Path) -> pb.ModelConfig:
    """A model's config.pbtxt."""
    return text_format.Parse((model / CONFIG).read_text("utf-8"), pb.ModelConfig())


def engine_config(packed: Path) -> pb.ModelConfig:
    """The configuration of a pack's engine."""
    return read_config(packed / "repository" / ENGINE)


def read_parameters(config: pb.ModelConfig) -> dict[str, str]:
    """The parameters of a model's configuration."""
    return {name: parameter.string_value for name, parameter in config.parameters.items()}
