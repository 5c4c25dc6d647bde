"""A Hugging Face checkpoint of the Llama architecture: config.json, *.safetensors, tokenizer.json.

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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tqdm import tqdm

from bento_trtllm.checkpoint import prequantized
from bento_trtllm.checkpoint.safetensors import Tensor, read_shards
from bento_trtllm.errors import CheckpointError

ARCHITECTURE = "LlamaForCausalLM"

# What the service reads its tokenizer, chat template and defaults from; all but the first may be absent.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


class LlamaConfig(BaseModel):
    """config.json, as written by transformers 4 or 5. Sizes are in elements, lengths in tokens.

    Defaults are those of transformers' LlamaConfig for keys that old checkpoints leave out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: tuple[str, ...]
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0, multiple_of=2)
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)
    rms_norm_eps: float = Field(default=1e-6, gt=0)
    rope_theta: float = Field(default=10000.0, gt=0)
    rope_type: str = "default"
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: str = "silu"
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    quantization_config: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = dict(data)
        # transformers 5 writes rope_parameters; 4 wrote rope_theta and rope_scaling (once with `type`).
        rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
        data["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
        if "rope_theta" in rope:
            data["rope_theta"] = rope["rope_theta"]
        heads = data.get("num_attention_heads")
        if data.get("num_key_value_heads") is None:
            data["num_key_value_heads"] = heads
        if data.get("head_dim") is None and isinstance(heads, int) and heads > 0:
            data["head_dim"] = int(data.get("hidden_size", 0)) // heads
        return data

    @model_validator(mode="after")
    def _check(self) -> "LlamaConfig":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads is not a multiple of num_key_value_heads")
        return self

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the architecture needs, by Hugging Face's name, with its shape [out, in]."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        layer = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for i in range(self.num_hidden_layers):
            shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        shapes["model.norm.weight"] = (hidden,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        return shapes


class _Generation(BaseModel):
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose needed tensors are all there, each in its shape and in a whole shard.

    `source` is the Hugging Face id or the directory as the user gave it; `revision` the commit of the former.
    """

    path: Path
    config: LlamaConfig
    source: str
    revision: str | None
    tensors: dict[str, Tensor]
    eos_ids: tuple[int, ...]
    """The tokens that end an answer; the first is the one that ends a chat's turn."""
    bos_id: int | None
    quantized: str | None = None
    """How the weights are quantised already, in a few words; None if they are not."""

    @property
    def name(self) -> str:
        """The last part of the source: what to call the model."""
        return Path(self.source).resolve().name if self.revision is None else self.source.split("/")[-1]

    @property
    def parameters(self) -> int:
        """How many weights the architecture has; tied embeddings count once."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors that are used."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type of the matrices as safetensors names it; several are joined with a plus sign."""
        return "+".join(sorted({tensor.dtype for tensor in self.tensors.values() if len(tensor.shape) > 1}))

    @property
    def files(self) -> list[Path]:
        """Every file that the engine or the tokenizer is made from, sorted by name."""
        named = {self.path / name for name in ("config.json", *TOKENIZER_FILES)}
        return sorted({tensor.shard for tensor in self.tensors.values()} | {p for p in named if p.is_file()})

    @cached_property
    def checksum(self) -> str:
        """SHA-256, in hexadecimal, of the names, sizes and contents of `files`, wherever they lie."""
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

    Raises CheckpointError, in one sentence, for whatever is missing, damaged or of another architecture.
    """
    # Imported here: --help answers at once.
    from bento_trtllm.text.ends import turn_end_first  # noqa: PLC0415

    data = _read_json(path / "config.json", needed=True)
    architectures = data.get("architectures") or ["none"]
    if architectures != [ARCHITECTURE]:
        raise CheckpointError(
            f"{source} is of the architecture {', '.join(map(str, architectures))}: only {ARCHITECTURE} can be packed"
        )
    config = _parse(LlamaConfig, data, path / "config.json")
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
    eos = config.eos_token_id if generation.eos_token_id is None else generation.eos_token_id
    if eos is None:
        raise CheckpointError(f"{path} names no eos_token_id, so no answer would end: add it to config.json")
    eos_ids = turn_end_first(path, (eos,) if isinstance(eos, int) else tuple(eos))
    bos_id = config.bos_token_id if generation.bos_token_id is None else generation.bos_token_id
    if outside := [i for i in (*eos_ids, bos_id) if i is not None and not 0 <= i < config.vocab_size]:
        raise CheckpointError(
            f"{path}: the token {outside[0]} is outside the vocabulary of {config.vocab_size:,} tokens"
        )
    return Checkpoint(path, config, source, revision, tensors, eos_ids, bos_id, quantized)


def _needed(tensors: dict[str, Tensor], config: LlamaConfig, path: Path, quantized: str | None) -> dict[str, Tensor]:
    shapes = config.shapes()
    original = f" (it is quantised already, {quantized}: pack the original)" if quantized else ""
    if missing := [name for name in shapes if name not in tensors]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{path} lacks the tensor {missing[0]}{more} that config.json asks for{original}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{tensors[name].shard}: {name} has the shape {list(tensors[name].shape)}, "
                f"but config.json asks for {list(shape)}{original}"
            )
    return {name: tensors[name] for name in shapes}


def _parse(kind: type[_Kind], data: dict[str, Any], path: Path) -> _Kind:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise CheckpointError(f"{path} cannot be used: {where}") from error


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
