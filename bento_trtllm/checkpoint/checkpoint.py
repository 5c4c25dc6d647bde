"""A Hugging Face checkpoint of a supported architecture: config.json, *.safetensors, tokenizer.json.

Nothing here loads a weight: names, types and shapes come from the shards' headers.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.architectures import ARCHITECTURES, config_of
from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.checkpoint.safetensors import Tensor, read_shards
from bento_trtllm.errors import CheckpointError

# Patterns of the files with the tokenizer, chat templates and sampling defaults; all but the first may be absent.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
)


class _Generation(BaseModel):
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in which every required tensor is present, with the right shape and in a complete shard.

    `source` is the Hugging Face id or the directory as the user gave it; `revision` is the commit of a Hugging Face id.
    """

    path: Path
    config: DecoderConfig
    source: str
    revision: str | None
    tensors: dict[str, Tensor]
    eos_ids: tuple[int, ...]
    """The end tokens; the first is the one that ends a chat's turn."""
    bos_id: int | None
    quantized: str | None = None
    """How the weights are already quantised, in a few words; None if they are not."""

    @property
    def name(self) -> str:
        """The last part of the source, used as the model's name."""
        return Path(self.source).resolve().name if self.revision is None else self.source.split("/")[-1]

    @property
    def parameters(self) -> int:
        """How many weights the architecture has; tied embeddings count once."""
        return sum(map(prod, self.config.shapes().values()))

    @property
    def nbytes(self) -> int:
        """The size in bytes of the tensors that are used."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type of the matrices as safetensors names it; several are joined with a plus sign."""
        return "+".join(sorted({tensor.dtype for tensor in self.tensors.values() if len(tensor.shape) > 1}))

    @property
    def files(self) -> list[Path]:
        """Every file that the engine or the tokenizer is made from, sorted by name."""
        config = self.path / "config.json"
        return sorted({tensor.shard for tensor in self.tensors.values()} | {config, *self.tokenizer_files})

    @property
    def tokenizer_files(self) -> list[Path]:
        """The files that the service reads."""
        return [path for name in TOKENIZER_FILES for path in sorted(self.path.glob(name)) if path.is_file()]

    @cached_property
    def checksum(self) -> str:
        """SHA-256, in hexadecimal, of the names, sizes and contents of `files`, wherever they are."""
        digest = hashlib.sha256()
        total = sum(file.stat().st_size for file in self.files)
        with tqdm(total=total, desc="checksum", unit="B", unit_scale=True, disable=None) as bar:
            for file in self.files:
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
                for block in _blocks(file):
                    digest.update(block)
                    bar.update(len(block))
        return digest.hexdigest()


def read_checkpoint(path: Path, source: str, revision: str | None = None) -> Checkpoint:
    """Read and check the checkpoint in a directory.

    Raises CheckpointError, in one sentence, for anything missing, damaged or of another architecture.
    """
    # Imported late so that --help answers at once.
    from bento_trtllm.text.ends import end_tokens  # noqa: PLC0415

    data = _read_json(path / "config.json", needed=True)
    architectures = data.get("architectures") or ["none"]
    if architectures not in [[name] for name in ARCHITECTURES]:
        raise CheckpointError(
            f"{source} is of the architecture {', '.join(map(str, architectures))}: only {', '.join(ARCHITECTURES)} "
            "can be packed"
        )
    config = _parse(config_of(architectures[0]), data, path / "config.json")
    if not (path / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{path} has no tokenizer.json: write one with transformers' AutoTokenizer and save_pretrained"
        )
    found = read_shards(path)
    modelopt = _read_json(path / prequantized.FILE)
    quantized = prequantized.quantized_by(config.quantization_config, modelopt, found.values())
    tensors = _needed(found, config, path, quantized)
    name = path / "generation_config.json"
    generation = _parse(_Generation, _read_json(name), name)
    named = (*_ids(generation.eos_token_id), *_ids(config.eos_token_id))
    # The tokenizer's may be beyond the model's vocabulary, and are then never generated.
    eos_ids = tuple(i for i in end_tokens(path, named) if i in named or i < config.vocab_size)
    if not eos_ids:
        raise CheckpointError(f"{path} names no eos_token_id, so no answer would end: add it to config.json")
    bos_id = config.bos_token_id if generation.bos_token_id is None else generation.bos_token_id
    if outside := [i for i in (*eos_ids, bos_id) if i is not None and not 0 <= i < config.vocab_size]:
        raise CheckpointError(
            f"{path}: the token {outside[0]} is outside the vocabulary of {config.vocab_size:,} tokens"
        )
    return Checkpoint(path, config, source, revision, tensors, eos_ids, bos_id, quantized)


def _ids(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else value


def _needed(tensors: dict[str, Tensor], config: DecoderConfig, path: Path, quantized: str | None) -> dict[str, Tensor]:
    shapes = config.shapes()
    original = f" (it is quantised already, {quantized}: pack the original)" if quantized else ""
    if missing := [name for name in shapes if name not in tensors]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{path} lacks the tensor {missing[0]}{more} that config.json asks for{original}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape and not prequantized.in_pairs(tensors[name], shape):
            raise CheckpointError(
                f"{tensors[name].shard}: {name} has the shape {list(tensors[name].shape)}, "
                f"but config.json asks for {list(shape)}{original}"
            )
    return {name: tensors[name] for name in shapes}


def _parse(kind: type[_Kind], data: dict[str, Any], path: Path) -> _Kind:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: ValidationError) -> CheckpointError:
    """What is wrong first in a file, and where, in one sentence."""
    first = error.errors()[0]
    where = ": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])
    return CheckpointError(f"{path} cannot be used: {where}")


def _read_json(path: Path, needed: bool = False) -> dict[str, Any]:
    if not path.is_file():
        if needed:
            raise CheckpointError(f"{path.parent} has no {path.name}: it is not a Hugging Face checkpoint")
        return {}
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def _blocks(file: Path, size: int = 1 << 22) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(size):
            yield block
