"""manifest.json: what a packed model is, as the service needs to know it without opening the engine."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bento_trtllm.engines.tensorrt_versions import DialectName
from bento_trtllm.errors import StoreError

FILE = "manifest.json"


class TensorRTBuild(BaseModel):
    """What a TensorRT engine was built with and for: it runs on nothing else. Lengths are in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    tensorrt_llm: str
    gpu: str
    compute_capability: str
    tp_size: int
    pp_size: int
    preset: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int


class Manifest(BaseModel):
    """One packed model. Lengths are in tokens; ids are those of the checkpoint's tokenizer.

    `source` is a Hugging Face id, then `revision` is its commit; or a directory, then `checksum` is the
    SHA-256 of its files (with a TensorRT engine always). `dtype` is the checkpoint's, `precision` the engine's;
    `dialect` says how the engine's tensors are called.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
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
    tensorrt: TensorRTBuild | None = None

    @property
    def gpu(self) -> bool:
        """Whether the engine runs on GPUs."""
        return self.tensorrt is not None

    @property
    def ranks(self) -> int:
        """Processes of Triton that the engine takes."""
        return self.tensorrt.tp_size * self.tensorrt.pp_size if self.tensorrt else 1

    def longest_prompt(self, chunked_context: bool) -> int:
        """Tokens that a prompt may have: with a token of the answer they fill the context.

        A TensorRT engine that does not split prompts takes no more than fit one step (trtGptModel.h, 1.3.0rc3).
        """
        longest = self.context_length - 1
        return longest if chunked_context or not self.tensorrt else min(longest, self.tensorrt.max_num_tokens)

    def write(self, directory: Path) -> None:
        """Write manifest.json into a directory."""
        (directory / FILE).write_text(self.model_dump_json(indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """The manifest of a packed model. Raises StoreError if there is none that this version can read."""
        try:
            return cls.model_validate_json((directory / FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{directory} was not packed by this version of pack_model.py: pack the checkpoint again"
            ) from error
