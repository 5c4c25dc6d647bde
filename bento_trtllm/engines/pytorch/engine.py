"""The PyTorch engine: the checkpoint's own files, run by tensorrt_llm.LLM in a Triton Python model of ours."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import JsonValue
from tokenizers import Tokenizer
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typing_extensions import Self

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.config import EngineSettings
from bento_trtllm.engines.base import Build, Engine, ManifestPart, Plan, python_model, python_sources
from bento_trtllm.engines.pytorch import releases, weights
from bento_trtllm.engines.pytorch.beside import DRAFT, Beside
from bento_trtllm.engines.pytorch.fit import KV_FRACTION, Load, gpu_fault
from bento_trtllm.engines.pytorch.options import PyTorchOptions
from bento_trtllm.engines.tensorrt import gpus
from bento_trtllm.engines.tensorrt.fit import division_fault
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.triton.process.ranks import launch_plan

NAME = "pytorch"
ARCHITECTURES = ("LlamaForCausalLM",)


class PyTorchEngine(Engine):
    """Links or copies the checkpoint: nothing is converted, and nothing built."""

    name = NAME

    def __init__(self, options: PyTorchOptions) -> None:
        """Raises EngineError for a release or a GPU that is not in its table."""
        self.options = options
        self.release = releases.find(options.release)
        self._named = gpus.named(options.gpu) if options.gpu else None

    @classmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        return cls(PyTorchOptions.make(**values))

    @cached_property
    def _gpus(self) -> list[GPU]:
        """The machine's own, or the one to plan for; none where there is neither. The pack may be for another machine,
        so a machine without any is no fault."""
        return [self._named] if self._named else gpus.installed()[: self.options.world_size]

    def prepare(self, checkpoint: Checkpoint) -> "PyTorchBuild":
        config, options = checkpoint.config, self.options
        if config.architecture not in ARCHITECTURES:
            raise CheckpointError(
                f"{checkpoint.source} is of the architecture {config.architecture}, which cannot be packed for the "
                "PyTorch engine"
            )
        if config.rope_type not in ("default", "llama3"):
            raise CheckpointError(
                f"{checkpoint.source} scales its rotary embedding by {config.rope_type}: only Llama 3's own scaling "
                "can be packed"
            )
        quantization = weights.quantization(checkpoint)
        context = min(options.max_seq_len or config.max_position_embeddings, config.max_position_embeddings)
        fp8_cache = options.kv_cache_dtype == "fp8" or weights.fp8_cache(checkpoint)
        load = Load(config, options, quantization, fp8_cache, context)
        if fault := division_fault(config, load.shape):
            raise EngineError(f"{checkpoint.source} {fault}")
        for gpu in self._gpus:
            if fault := gpu_fault(load, self.release, gpu):
                raise EngineError(fault)
        return PyTorchBuild(checkpoint, self, load, self._gpus, options.beside(checkpoint))

    def serve_command(self, tag: str) -> str:
        return f"scripts/in_container --release {self.release.tag} bentoml serve --arg model={tag}"


def _guide_end(path: Path) -> str:
    """The id of the tokenizer's eos_token, "" where it has none."""
    file = path / "tokenizer_config.json"
    named = json.loads(file.read_text("utf-8-sig")).get("eos_token") if file.is_file() else None
    text = named.get("content") if isinstance(named, dict) else named
    found = Tokenizer.from_file(str(path / "tokenizer.json")).token_to_id(text) if isinstance(text, str) else None
    return "" if found is None else str(found)


class PyTorchBuild(Build):
    """One checkpoint with options that fit it. Its precision is its quantization, or else its dtype."""

    def __init__(
        self, checkpoint: Checkpoint, engine: PyTorchEngine, load: Load, gpus: list[GPU], beside: Beside
    ) -> None:
        super().__init__(checkpoint)
        self.options, self.release = engine.options, engine.release
        self.quantization, self.context_length = load.quantization, load.context_length
        self._load, self._gpus, self._beside = load, gpus, beside

    @property
    def precision(self) -> str:
        if self.quantization != "none":
            return self.quantization
        return self.options.dtype if self.options.dtype != "auto" else self.checkpoint.dtype.lower()

    @property
    def _sources(self) -> list[Path]:
        """Flat: the tokenizer is for guided decoding, and has its files beside config.json, as transformers wants."""
        path = self.checkpoint.path
        tokenizer = [file for file in self.checkpoint.tokenizer_files if file.parent == path]
        return sorted({*weights.files(path), *tokenizer})

    def plan(self) -> Plan:
        size = self._load.size
        sources = {**{source.name: source for source in self._sources}, **self._beside.files}
        memory: JsonValue = None
        if self._gpus:
            gpu = self._gpus[0]
            tokens = size.kv_tokens(gpu, KV_FRACTION)
            memory = {
                "gpu": gpu.name, "compute_capability": gpu.sm, "bytes": gpu.memory, "kv_cache_tokens": tokens,
            }  # fmt: skip
        return {
            "name": NAME,
            "precision": self.precision,
            "files": {name: source.stat().st_size for name, source in sources.items()},
            "settings": {
                **self.options.model_dump(mode="json"),
                "image": self.release.image,
                "tensorrt_llm": self.release.tensorrt_llm,
                "context_length": self.context_length,
                "quantization": self.quantization,
                "estimate": {
                    "weights_bytes": size.weights,
                    "reserve_bytes": size.reserve,
                    "kv_bytes_per_token": size.kv_bytes_per_token,
                },
                "memory": memory,
            },
        }

    def write(self, directory: Path, workspace: Path) -> None:
        weights.place(self._sources, directory)
        self._beside.place(directory)

    def model_config(self) -> ModelConfig:
        options = self.options
        values = {
            "gpt_model_path": "engine",
            "vocab_size": str(self.checkpoint.config.vocab_size),
            "context_length": str(self.context_length),
            "tensor_parallel_size": str(options.tp_size),
            "pipeline_parallel_size": str(options.pp_size),
            "dtype": options.dtype,
            "max_batch_size": str(options.max_batch_size),
            "max_num_tokens": str(options.max_num_tokens),
            "kv_cache_dtype": options.kv_cache_dtype,
            "cuda_graphs": str(options.records_steps).lower(),
            "speculative": options.speculative or "",
            "draft_tokens": str(options.draft_tokens),
            "draft_folder": DRAFT if options.draft_checkpoint else "",
            "guide_end_id": _guide_end(self.checkpoint.path),
            "exclude_input_in_output": "true",
            **EngineSettings().parameters(NAME),
            # Settings that other engines have, too, have other defaults here.
            "kv_cache_free_gpu_mem_fraction": "",
            "batch_scheduler_policy": "guaranteed_no_evict",
            "enable_kv_cache_reuse": "true",
        }
        return python_model(values)

    def model_sources(self) -> list[Path]:
        return python_sources(NAME)

    def manifest_part(self) -> ManifestPart:
        return {
            "engine": NAME,
            "precision": self.precision,
            "context_length": self.context_length,
            "versions": {"tensorrt_llm": self.release.tensorrt_llm},
            "dialect": self.dialect.name,
            # Not bound to a machine: what it takes is among the parameters, and what was asked for in the options.
            "build": None,
            "options": {"release": self.release.tag, **self.options.given()},
        }

    def launch(self) -> list[list[str]]:
        return launch_plan(1)
