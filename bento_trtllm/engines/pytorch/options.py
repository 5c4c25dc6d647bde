"""What can be said of a PyTorch engine when it is packed; how it runs is in config.py."""

from typing import TYPE_CHECKING, Literal

from pydantic import AliasChoices, Field, model_validator

from bento_trtllm.engines.options import EngineOptions
from bento_trtllm.engines.tensorrt.releases import DEFAULT

if TYPE_CHECKING:
    from bento_trtllm.checkpoint.checkpoint import Checkpoint
    from bento_trtllm.engines.pytorch.beside import Beside


class PyTorchOptions(EngineOptions):
    """For NVIDIA GPUs: the checkpoint as it is, run by TensorRT-LLM's PyTorch runtime. Lengths are in tokens."""

    release: str = Field(DEFAULT, description="Tag of NVIDIA's container that serves it.")
    dtype: Literal["auto", "bfloat16", "float16"] = Field(
        "auto", description="Of activations, and of unquantised weights. auto: the checkpoint's."
    )
    kv_cache_dtype: Literal["auto", "fp8"] = Field(
        "auto", description="Of the KV cache. auto: as a quantised checkpoint says, else dtype."
    )
    tp_size: int = Field(
        1, ge=1, validation_alias=AliasChoices("tp_size", "tp"), description="GPUs that share each layer."
    )
    pp_size: int = Field(
        1, ge=1, validation_alias=AliasChoices("pp_size", "pp"), description="GPUs that share the layers out."
    )
    max_batch_size: int = Field(256, ge=1, description="Requests that run at once, at most.")
    max_seq_len: int | None = Field(
        None, ge=2, description="Longest prompt and answer together. None: the model's context."
    )
    max_num_tokens: int = Field(8192, ge=1, description="Tokens of one step, prompts included.")
    cuda_graphs: bool = Field(True, description="Record the steps of usual batches: faster, for some memory.")
    speculative: Literal["ngram", "eagle3"] | None = Field(
        None, description="Guess tokens ahead: from the text so far, or by a draft checkpoint."
    )
    draft_checkpoint: str | None = Field(None, description="The directory of eagle3's draft checkpoint.")
    draft_tokens: int = Field(4, ge=1, le=16, description="Tokens that are guessed at once.")
    lora: list[str] | None = Field(None, description="A LoRA adapter that requests may choose; may be given again.")
    gpu: str | None = Field(None, exclude=True, description="With --dry-run: plan for this GPU, such as L40S.")

    @model_validator(mode="after")
    def _goes_together(self) -> "PyTorchOptions":
        if (self.speculative == "eagle3") != (self.draft_checkpoint is not None):
            raise ValueError("--speculative eagle3 and --draft-checkpoint go together")
        if self.speculative is None and "draft_tokens" in self.model_fields_set:
            raise ValueError("--draft-tokens goes with --speculative")
        if self.speculative and self.pp_size > 1:
            # _executor_loop_pp of py_executor.py has no drafter (1.3.0rc3).
            raise ValueError("--speculative does not go with --pp: over a pipeline TensorRT-LLM guesses nothing ahead")
        if self.lora and self.speculative:
            raise ValueError("--lora does not go with --speculative: TensorRT-LLM has not tested them together")
        if self.lora and self.cuda_graphs and "cuda_graphs" in self.model_fields_set:
            raise ValueError("--lora does not go with --cuda-graphs: recorded steps know no adapters in TensorRT-LLM")
        return self

    @property
    def world_size(self) -> int:
        """GPUs that it takes."""
        return self.tp_size * self.pp_size

    @property
    def records_steps(self) -> bool:
        """Whether steps are recorded as CUDA graphs."""
        # "LoRA" with "CUDA Graph" is "No" in docs/source/features/feature-combination-matrix.md (1.3.0rc3).
        return self.cuda_graphs and not self.lora

    def beside(self, checkpoint: "Checkpoint") -> "Beside":
        """What is to lie beside the checkpoint. Raises EngineError, and CheckpointError for what cannot be loaded."""
        # Imported late so that --help answers at once.
        from bento_trtllm.engines.pytorch import adapters, beside  # noqa: PLC0415

        draft = beside.draft(self.draft_checkpoint) if self.draft_checkpoint is not None else beside.Beside()
        return draft | adapters.read(self.lora or (), checkpoint)

    def given(self) -> dict[str, str]:
        """The options that were given, by their names on the command line, as manifest.json keeps them."""
        values = self.model_dump(mode="json", include=self.model_fields_set - {"gpu"}, exclude_none=True)
        return {
            name.replace("_", "-"): ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
        }
