"""manifest.json: what the service needs to know about a pack without opening the engine."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bento_trtllm import inventory
from bento_trtllm.errors import StoreError
from bento_trtllm.inventory import Inventory

DialectName = Literal["0.10.0", "0.12.0", "0.15.0", "1.x"]
"""What an engine's release calls its tensors, named after the first release that calls them so."""
FILE = "manifest.json"
FORMAT: Literal[2] = 2
"""1 had no inventory."""


class Proof(BaseModel):
    """What an engine's log probabilities were off by, at most, from those of the numpy reference (natural logarithms).

    `log_prob_error` is as it computes when served, `exact_log_prob_error` in f32 throughout, where that was tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    """The CPU and its instructions, and the libraries."""
    computed: str
    """In which types."""
    log_prob_error: float
    exact_log_prob_error: float | None = None

    def __str__(self) -> str:
        exact = self.exact_log_prob_error
        in_f32 = "" if exact in (None, self.log_prob_error) else f", and by up to {exact:.2g} in f32"
        return (
            f"log probabilities are off by up to {self.log_prob_error:.2g} {self.computed}{in_f32}, on {self.machine}"
        )

    def is_for(self, machine: str, computed: str) -> bool:
        return (self.machine, self.computed) == (machine, computed)


class Manifest(BaseModel):
    """One pack. Lengths are in tokens; ids are those of the checkpoint's tokenizer.

    `source` is a Hugging Face id, then `revision` is its commit; or a directory, then `checksum` is the
    SHA-256 of its files (with a TensorRT engine always). `dtype` is the checkpoint's, `precision` the engine's;
    `dialect` says how the engine's tensors are called; `build` is what the engine's Runtime must know of how it was
    built, `options` what pack_model.py was told besides the checkpoint;
    `proof` is what it showed of itself on the machine that packed it;
    `memory`, of an engine on a CPU, in bytes: its `weights` on disk, all that is `loaded` into memory, and a `token` of
    KV cache where no setting says otherwise; `files` is what the pack consists of; `seal`
    is the SHA-256 of everything else in here, and so a name for exactly this pack. Both are of `write`'s making.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = FORMAT
    engine: str
    precision: str
    source: str
    revision: str | None
    checksum: str | None
    architecture: str
    parameters: int
    dtype: str
    vocab_size: int
    context_length: int
    bos_id: int | None
    eos_ids: list[int]
    versions: dict[str, str]
    dialect: DialectName = "1.x"
    # Its old name is that of the one engine that had it.
    build: dict[str, JsonValue] | None = Field(None, validation_alias=AliasChoices("build", "tensorrt"))
    options: dict[str, str] = {}
    memory: dict[str, int] = {}
    proof: Proof | None = None
    files: Inventory = {}
    seal: str = ""

    def write(self, directory: Path) -> None:
        """Take the inventory of a directory that has everything else in it, and write manifest.json there."""
        data = self.model_copy(update={"files": inventory.take(directory)}).model_dump(mode="json", exclude={"seal"})
        text = json.dumps({**data, "seal": _seal(data)}, indent=2, ensure_ascii=False)
        (directory / FILE).write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """The manifest of a pack whose other files may be damaged: see `open`.

        Raises StoreError if there is none that this version can read, or it is not as it was written.
        """
        tag = tag_of(directory)
        try:
            data = json.loads((directory / FILE).read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"the model {tag} has no {FILE}: {_how_to_repack(tag)}") from error
        except OSError as error:
            raise StoreError(f"the model {tag} cannot be read: {directory / FILE}: {error.strerror}") from error
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise StoreError(f"the model {tag} is damaged: {FILE} is not what was written; {_how_to_repack(tag)}")
        if (found := data.get("format")) != FORMAT:
            by = "an older" if found == 1 else "another"
            raise StoreError(
                f"the model {tag} was packed by {by} version of pack_model.py (format {found}, and this one reads "
                f"{FORMAT}): {_how_to_repack(tag, data)}"
            )
        if "gguf" in data.get("versions", {}):
            raise StoreError(
                f"the model {tag} was packed by an older version of pack_model.py (as a GGUF file): "
                f"{_how_to_repack(tag, data)}"
            )
        seal = data.pop("seal", None)
        if _seal(data) != seal:
            raise StoreError(f"the model {tag} is damaged: {FILE} is not what was written; {_how_to_repack(tag, data)}")
        try:
            return cls.model_validate({**data, "seal": seal})
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise StoreError(
                f"the model {tag} was packed by another version of pack_model.py ({FILE}: {where}): "
                f"{_how_to_repack(tag, data)}"
            ) from error

    @classmethod
    def open(cls, directory: Path, *, full: bool = False) -> "Manifest":
        """The manifest of a pack whose files are checked first (inventory.py). Raises StoreError if any has changed."""
        manifest = cls.read(directory)
        manifest.check(directory, full=full)
        return manifest

    def check(self, directory: Path, *, full: bool = False) -> None:
        """Raise StoreError if the files in there are not those that this manifest was written for."""
        try:
            inventory.check(directory, self.files, full=full)
        except StoreError as error:
            tag = tag_of(directory)
            raise StoreError(
                f"the model {tag} is damaged: {error}; {_how_to_repack(tag, self.model_dump())}"
            ) from error


def tag_of(directory: Path) -> str:
    """From the layout of BentoML's model store, NAME/VERSION."""
    return f"{directory.parent.name}:{directory.name}"


def _how_to_repack(tag: str, manifest: Mapping[str, Any] | None = None) -> str:
    """How to pack a model again, from what its manifest still says."""
    known = manifest or {}
    source = shlex.quote(str(known.get("source", "DIR_OR_HUGGING_FACE_ID")))
    command = f"{known.get('engine', 'ENGINE')} --checkpoint {source}"
    options = known.get("options")
    if not options and "precision" in known and not (known.get("build") or known.get("tensorrt")):
        # Packed before options were recorded: an engine without a `build` had this one option.
        options = {"precision": known["precision"]}
    if "gguf" in known.get("versions", {}):
        options = {"precision": {"q8_0": "int8"}.get(known["precision"], "f16")}
    for name, value in (options or {}).items():
        command += f" --{name} {shlex.quote(str(value))}"
    return f"pack it again with python pack_model.py {command} --tag {tag} --force"


def _seal(data: dict[str, Any]) -> str:
    """A checksum of the values, whatever their layout: a field that a later version adds by default changes nothing."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
